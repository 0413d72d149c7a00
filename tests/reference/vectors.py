"""Golden vectors: bytes written by hand from the standard, each line with what it says.

Enters: nothing. Leaves: bytes. Never: bytes that any code of this project, or its reference, has computed.
"""

import re

TOKEN = re.compile(r'"([^"]*)"|([0-9A-Fa-f]+)')


def octets(text: str) -> bytes:
    """Hexadecimal digits and quoted ASCII, with comments from # to the end of the line."""
    out = b""
    for line in text.splitlines():
        for quoted, digits in TOKEN.findall(line.split("#")[0]):
            out += quoted.encode("ascii") if quoted else bytes.fromhex(digits)
    return out


# PS3.8 section 9.3.6 to 9.3.8.
RELEASE_RQ = octets("05 00 00000004 00000000  # A-RELEASE-RQ, length 4, reserved")
RELEASE_RP = octets("06 00 00000004 00000000  # A-RELEASE-RP, length 4, reserved")
ABORT = octets("07 00 00000004 0000 02 06    # A-ABORT, length 4, reserved, by the service provider, invalid PDU parameter value")

ASSOCIATE_RQ = octets("""
    01 00 000000C6                   # A-ASSOCIATE-RQ, length 198
    0001 0000                        # protocol version 1, reserved
    "FASTSCP         "               # called AE title
    "STORESCU        "               # calling AE title
    00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
    10 00 0015 "1.2.840.10008.3.1.1.1"             # application context, length 21
    20 00 0038 01 00 00 00                         # presentation context, length 56, id 1
      30 00 0019 "1.2.840.10008.5.1.4.1.1.7"       #   abstract syntax, length 25: Secondary Capture Image Storage
      40 00 0013 "1.2.840.10008.1.2.1"             #   transfer syntax, length 19: explicit VR little endian
    50 00 0029                                     # user information, length 41
      51 00 0004 00004000                          #   maximum length 16384
      52 00 001D "1.2.826.0.1.3680043.10.9999.1"   #   implementation class UID, length 29
""")

ECHO = octets("""
    04 00 0000004A                   # P-DATA-TF, length 74
    00000046 01 03                   # PDV of 70 bytes, context 1, last fragment of a command
    0000 0000 04000000 38000000      # (0000,0000) UL group length 56
    0000 0200 12000000 "1.2.840.10008.1.1" 00    # (0000,0002) UI Affected SOP Class UID: Verification
    0000 0001 02000000 3000          # (0000,0100) US Command Field: C-ECHO-RQ
    0000 1001 02000000 0100          # (0000,0110) US Message ID 1
    0000 0008 02000000 0101          # (0000,0800) US Command Data Set Type: none
""")
ECHO_COMMAND = ECHO[12:]

STORE_COMMAND = octets("""
    0000 0000 04000000 5A000000      # (0000,0000) UL group length 90
    0000 0200 1A000000 "1.2.840.10008.5.1.4.1.1.7" 00    # (0000,0002) UI Secondary Capture Image Storage
    0000 0001 02000000 0100          # (0000,0100) US Command Field: C-STORE-RQ
    0000 1001 02000000 0702          # (0000,0110) US Message ID 519
    0000 0007 02000000 0000          # (0000,0700) US Priority: medium
    0000 0008 02000000 0000          # (0000,0800) US Command Data Set Type: there is one
    0000 0010 08000000 "1.2.3.4" 00  # (0000,1000) UI Affected SOP Instance UID
""")

EXPLICIT_LITTLE_DATA_SET = octets("""
    0800 1600 "UI" 1A00 "1.2.840.10008.5.1.4.1.1.7" 00   # (0008,0016) SOP Class UID
    0800 1800 "UI" 0800 "1.2.3.4" 00                     # (0008,0018) SOP Instance UID
    0800 2000 "DA" 0800 "20240229"                       # (0008,0020) Study Date
    2000 0D00 "UI" 0600 "1.2.3" 00                       # (0020,000D) Study Instance UID
    2000 0E00 "UI" 0800 "1.2.3.1" 00                     # (0020,000E) Series Instance UID
    E07F 1000 "OW" 0000 04000000 00010203                # (7FE0,0010) Pixel Data
""")

STORE = (
    octets("""
    04 00 0000006C                   # P-DATA-TF, length 108
    00000068 01 03                   # PDV of 104 bytes, context 1, last fragment of a command
    """)
    + STORE_COMMAND
    + octets("""
    04 00 0000007C                   # P-DATA-TF, length 124: two PDVs
    00000034 01 00                   # PDV of 52 bytes, context 1, fragment of a data set
    """)
    + EXPLICIT_LITTLE_DATA_SET[:50]
    + octets("00000040 01 02         # PDV of 64 bytes, context 1, last fragment of a data set")
    + EXPLICIT_LITTLE_DATA_SET[50:]
)

# With implementation class UID 1.2.826.0.1.3680043.10.1, version name FASTSCP_TEST and source AE title STORESCU.
STORE_FILE_META = bytes(128) + octets("""
    "DICM"
    0200 0000 "UL" 0400 A0000000                         # (0002,0000) group length 160
    0200 0100 "OB" 0000 02000000 0001                    # (0002,0001) version
    0200 0200 "UI" 1A00 "1.2.840.10008.5.1.4.1.1.7" 00   # (0002,0002) Media Storage SOP Class UID
    0200 0300 "UI" 0800 "1.2.3.4" 00                     # (0002,0003) Media Storage SOP Instance UID
    0200 1000 "UI" 1400 "1.2.840.10008.1.2.1" 00         # (0002,0010) Transfer Syntax UID
    0200 1200 "UI" 1800 "1.2.826.0.1.3680043.10.1"       # (0002,0012) Implementation Class UID
    0200 1300 "SH" 0C00 "FASTSCP_TEST"                   # (0002,0013) Implementation Version Name
    0200 1600 "AE" 0800 "STORESCU"                       # (0002,0016) Source Application Entity Title
""")

STORE_RESPONSE = octets("""
    04 00 00000084                   # P-DATA-TF, length 132
    00000080 01 03                   # PDV of 128 bytes, context 1, last fragment of a command
    0000 0000 04000000 72000000      # (0000,0000) UL group length 114
    0000 0200 1A000000 "1.2.840.10008.5.1.4.1.1.7" 00    # (0000,0002) UI Affected SOP Class UID
    0000 0001 02000000 0180          # (0000,0100) US Command Field: C-STORE-RSP
    0000 2001 02000000 0702          # (0000,0120) US Message ID Being Responded To 519
    0000 0008 02000000 0101          # (0000,0800) US Command Data Set Type: none
    0000 0009 02000000 00C0          # (0000,0900) US Status C000H
    0000 0109 04000000 2000 0D00     # (0000,0901) AT Offending Element (0020,000D)
    0000 0209 04000000 "why "        # (0000,0902) LO Error Comment
    0000 0010 08000000 "1.2.3.4" 00  # (0000,1000) UI Affected SOP Instance UID
""")

IMPLICIT_LITTLE_DATA_SET = octets("""
    0800 0500 0A000000 "ISO_IR 192"  # (0008,0005)
    0800 1600 04000000 "1.2" 00      # (0008,0016)
    0800 1800 08000000 "1.2.3.4" 20  # (0008,0018), padded with a space
    0800 2000 00000000               # (0008,0020), empty
    0800 1511 FFFFFFFF               # (0008,1115) Referenced Series Sequence, undefined length
      FEFF 00E0 FFFFFFFF             #   item, undefined length
        2000 0E00 04000000 "9.9" 00  #     (0020,000E) of something else
        0800 9911 00000000           #     (0008,1199), a sequence without items
      FEFF 0DE0 00000000             #   end of item
      FEFF 00E0 04000000 FEFFDDE0    #   item of 4 bytes, which look like a delimiter
    FEFF DDE0 00000000               # end of sequence
    0900 1000 04000000 "TEST"        # (0009,0010) private creator
    2000 0D00 06000000 "1.2.3" 00    # (0020,000D)
    2000 0E00 08000000 "1.2.3.1" 00  # (0020,000E)
    E07F 1000 FFFFFFFF               # not read any more
""")

EXPLICIT_BIG_DATA_SET = octets("""
    0008 0016 "UI" 0004 "1.2" 00             # (0008,0016)
    0008 0018 "UI" 0008 "1.2.3.4" 00         # (0008,0018)
    0008 0020 "DA" 0008 "20240229"           # (0008,0020)
    0009 1001 "UN" 0000 FFFFFFFF             # (0009,1001) UN of undefined length: implicit VR little endian inside (PS3.5 section 6.2.2)
      FEFF 00E0 FFFFFFFF                     #   item, undefined length
        2000 0D00 02000000 "9" 00            #     (0020,000D) of something else
      FEFF 0DE0 00000000                     #   end of item
    FEFF DDE0 00000000                       # end of sequence
    0018 9999 "ZZ" 0000 00000002 0000        # a VR to come has the long form
    0020 000D "UI" 0006 "1.2.3" 00           # (0020,000D)
    0020 000E "UI" 0008 "1.2.3.1" 00         # (0020,000E)
""")

DEFLATED_DATA_SET = (
    octets("01 7000 8FFF  # RFC 1951 section 3.2.4: last block, stored, 112 bytes, and the complement of 112") + EXPLICIT_LITTLE_DATA_SET
)

STREAMS = {"release": RELEASE_RQ, "release_rp": RELEASE_RP, "abort": ABORT, "associate": ASSOCIATE_RQ, "echo": ECHO, "store": STORE}
COMMANDS = {"echo": ECHO_COMMAND, "store": STORE_COMMAND, "response": STORE_RESPONSE[12:]}
DATA_SETS = {
    "explicit little": (EXPLICIT_LITTLE_DATA_SET, True, True),
    "implicit little": (IMPLICIT_LITTLE_DATA_SET, False, True),
    "explicit big": (EXPLICIT_BIG_DATA_SET, True, False),
}
"""(data set, explicit VR, little endian)"""
