"""The head of a Part-10 file: preamble, prefix and file meta information (PS3.10 section 7.1).

Enters: UIDs and titles. Leaves: bytes, explicit VR little endian. Never: a value longer than its place.
"""

def encode_file_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str,
    implementation_class_uid: str,
    implementation_version_name: str,
) -> bytes:
    """Preamble, prefix and file meta information group, explicit VR little endian (PS3.10 section 7.1).

    UIDs are at most 64 characters, AE title and version name at most 16. Raises ValueError beyond that.
    """
