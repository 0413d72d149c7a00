# POSIX mutexes, as far as they are used. What they guard is held for tens of nanoseconds: whoever finds one taken spins before it sleeps.

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef extern from *:
    """
    #include <pthread.h>
    static inline void fastscp_mutex_init(pthread_mutex_t *mutex) {
    #ifdef __GLIBC__
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
        pthread_mutex_init(mutex, &attributes);
        pthread_mutexattr_destroy(&attributes);
    #else
        pthread_mutex_init(mutex, NULL);
    #endif
    }
    """
    void fastscp_mutex_init(pthread_mutex_t *mutex) nogil
