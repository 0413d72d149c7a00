"""The table of options: name, kind, default and help of each, and the attribute that holds its value.

Enters: nothing. Leaves: the class Settings and the list OPTIONS made from it.
Never: a reading of flags, environment or files.
"""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from fastscp.observe.log import LogFormat, LogLevel
from fastscp.settings import kinds
from fastscp.settings.kinds import Kind, Network, StoreTarget
from fastscp.settings.machine import default_memory_budget_bytes

LISTEN, ACCESS, TIMES, LIMITS, STORAGE, LOG = (
    "Listening",
    "Who may send what",
    "Deadlines",
    "Limits",
    "Storing",
    "Logging",
)


class Declared(msgspec.Struct, frozen=True):
    """What the table says of an option.

    Attributes:
        name: in a TOML file; --max-pdu and FASTSCP_MAX_PDU are made from max_pdu.
        shown_default: stands in help in the default's place where that depends on the machine or is an empty list.
    """

    name: str
    group: str
    kind: Kind
    help: str
    shown_default: str = ""


_D = Declared
_DAY_S = 86400.0

ABORT_GRACE_S = 5.0
"""How long associations may take to end once the drain's deadline has aborted them."""

EXIT_GRACE_S = 2.0
"""How long processes may take to end when everything is written."""

FARGATE_STOP_S = 120.0
"""Longest stopTimeout of a container on Fargate.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html"""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `fastscp serve` runs with. Every attribute is an option; the unit is part of its name."""

    host: Annotated[
        str,
        _D("host", LISTEN, kinds.HOST, "Address to listen on for DICOM. 0.0.0.0 is every IPv4 address, :: every IPv6 and IPv4 address."),
    ] = "0.0.0.0"
    port: Annotated[int, _D("port", LISTEN, kinds.integer(0, 65535), "Port to listen on for DICOM; 0 takes a free one.")] = 11112
    aet: Annotated[str, _D("aet", LISTEN, kinds.AE_TITLE, "This receiver's AE title.")] = "FASTSCP"
    admin_host: Annotated[
        str,
        _D("admin_host", LISTEN, kinds.HOST, "Address to listen on for /livez, /readyz and /metrics. Nothing there asks who is calling."),
    ] = "127.0.0.1"
    admin_port: Annotated[
        int, _D("admin_port", LISTEN, kinds.integer(0, 65535), "Port to listen on for /livez, /readyz and /metrics; 0 takes a free one.")
    ] = 8080

    store: Annotated[
        StoreTarget,
        _D(
            "store",
            STORAGE,
            kinds.STORE,
            "Where instances go: a directory, as PATH or file:PATH; s3://bucket/prefix; or null: (counts and drops them, for measuring).",
        ),
    ] = StoreTarget("file", "./received")
    fsync: Annotated[
        bool,
        _D(
            "fsync",
            STORAGE,
            kinds.YES_NO,
            "Whether Success waits until the instance is on the disk. With no, a crash of the machine can lose what was acknowledged.",
        ),
    ] = True
    on_duplicate: Annotated[
        Literal["overwrite", "reject"],
        _D(
            "on_duplicate",
            STORAGE,
            kinds.choice("overwrite", "reject"),
            "What happens to a SOP Instance UID that is already stored: replaced, or refused with status C000.",
        ),
    ] = "overwrite"

    s3_engine: Annotated[
        Literal["auto", "obstore", "s3transfer"],
        _D(
            "s3_engine",
            STORAGE,
            kinds.choice("auto", "obstore", "s3transfer"),
            "The S3 client; auto is obstore where it is installed. obstore takes a quarter of the processor time.",
        ),
    ] = "auto"
    aws_region: Annotated[str, _D("aws_region", STORAGE, kinds.WORD, "Region of the bucket.", "AWS_DEFAULT_REGION or the profile's")] = ""
    bucket_owner: Annotated[
        str, _D("bucket_owner", STORAGE, kinds.ACCOUNT, "Account that the bucket must belong to, 12 digits.", "not asked")
    ] = ""
    encryption: Annotated[
        Literal["bucket-default", "AES256", "aws:kms"],
        _D(
            "encryption",
            STORAGE,
            kinds.choice("bucket-default", "AES256", "aws:kms"),
            "Server-side encryption of objects: AES256 is SSE-S3, aws:kms is SSE-KMS with a bucket key.",
        ),
    ] = "bucket-default"
    kms_key: Annotated[str, _D("kms_key", STORAGE, kinds.WORD, "Id or ARN of the key for aws:kms.", "the account's key for S3")] = ""

    require_called_aet: Annotated[
        bool, _D("require_called_aet", ACCESS, kinds.SWITCH, "Reject associations whose called AE title is not --aet.")
    ] = False
    require_calling_aet: Annotated[
        tuple[str, ...], _D("require_calling_aet", ACCESS, kinds.AE_TITLES, "Accept only these calling AE titles.", "any")
    ] = ()
    peers: Annotated[
        tuple[Network, ...], _D("peers", ACCESS, kinds.NETWORKS, "Accept associations only from these addresses and networks.", "any")
    ] = ()
    proxy_protocol: Annotated[
        tuple[Network, ...],
        _D(
            "proxy_protocol",
            ACCESS,
            kinds.NETWORKS,
            "Networks of load balancers whose connections begin with a PROXY protocol header, version 2; all others are refused.",
            "no header is expected",
        ),
    ] = ()
    sop_classes: Annotated[
        tuple[str, ...],
        _D(
            "sop_classes", ACCESS, kinds.UIDS, "Accept only these storage SOP classes.", "every storage class, private and unknown ones too"
        ),
    ] = ()

    workers: Annotated[
        int,
        _D(
            "workers",
            LIMITS,
            kinds.integer(1, 256),
            "Processes that associations are spread over. The limits hold for all of them together.",
            "with S3 the processors that this process may use, otherwise 1",
        ),
    ] = 1
    max_associations: Annotated[
        int,
        _D(
            "max_associations",
            LIMITS,
            kinds.integer(1, 100_000),
            "Most associations at one time; more are rejected as a transient condition.",
        ),
    ] = 300
    max_pdu_bytes: Annotated[
        int, _D("max_pdu", LIMITS, kinds.size(4096, 2**20, str), "Maximum PDU length that is offered to the peer, in bytes.")
    ] = 131072
    max_instance_bytes: Annotated[
        int, _D("max_instance_size", LIMITS, kinds.size(2**10, 2**50), "Longest data set that is accepted; a longer one is answered A700.")
    ] = 4 * 2**30
    memory_budget_bytes: Annotated[
        int,
        _D(
            "memory_budget",
            LIMITS,
            kinds.size(4 * 2**20, 2**50),
            "Most memory for instances on their way to the store, divided among the workers. At the limit they stop reading.",
            "half of the memory limit of the control group, or of the machine's memory",
        ),
    ] = msgspec.field(default_factory=default_memory_budget_bytes)
    spill_threshold_bytes: Annotated[
        int,
        _D(
            "spill_threshold",
            LIMITS,
            kinds.size(2**20, 2**40),
            "An instance that holds this much memory goes on to the store while it arrives; to files from 2MiB at the latest.",
        ),
    ] = 16 * 2**20

    associate_timeout_s: Annotated[
        float,
        _D("associate_timeout", TIMES, kinds.seconds(0.1, _DAY_S), "Longest time from the connection to a complete association request."),
    ] = 30.0
    idle_timeout_s: Annotated[float, _D("idle_timeout", TIMES, kinds.seconds(0.1, _DAY_S), "Longest silence between two messages.")] = 600.0
    progress_timeout_s: Annotated[
        float,
        _D(
            "progress_timeout",
            TIMES,
            kinds.seconds(0.1, _DAY_S),
            "Inside a message at least 1 kB must arrive in each stretch of this time.",
        ),
    ] = 30.0
    put_timeout_s: Annotated[
        float, _D("put_timeout", TIMES, kinds.seconds(0.1, _DAY_S), "Longest wait for memory, and for S3; then the answer is A700.")
    ] = 30.0
    quiet_period_s: Annotated[
        float,
        _D("quiet_period", TIMES, kinds.seconds(0.1, _DAY_S), "A batch for import closes after this long without an instance. S3 only."),
    ] = 15.0
    drain_timeout_s: Annotated[
        float,
        _D(
            "drain_timeout",
            TIMES,
            kinds.seconds(0.1, _DAY_S),
            "After SIGTERM or Ctrl-C, longest time for open associations to finish what they send.",
        ),
    ] = 75.0
    stop_timeout_s: Annotated[
        float,
        _D(
            "stop_timeout",
            TIMES,
            kinds.seconds(0.1, _DAY_S),
            "Time between SIGTERM and SIGKILL, as the service manager has it. Within it a drain ends and manifests are written.",
        ),
    ] = 120.0

    log_level: Annotated[
        LogLevel, _D("log_level", LOG, kinds.choice("debug", "info", "warning", "error"), "Least severe level that is logged.")
    ] = "info"
    log_format: Annotated[
        LogFormat,
        _D(
            "log_format",
            LOG,
            kinds.choice("auto", "json", "console"),
            "How a record is written to stderr: json is one object a line; auto is console on a terminal and json elsewhere.",
        ),
    ] = "auto"
    emf_namespace: Annotated[
        str,
        _D(
            "emf_namespace",
            LOG,
            kinds.NAMESPACE,
            "Namespace of metrics in CloudWatch, which then are in the log too: a line of the embedded metric format about every minute.",
            "no such lines",
        ),
    ] = ""


class Option(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        attribute: of Settings.
        declared: what the table says.
        default: the value where nobody says anything.
    """

    attribute: str
    declared: Declared
    default: Any

    @property
    def name(self) -> str:
        """The key in a TOML file and in the answers of `load_settings`."""
        return self.declared.name

    @property
    def flag(self) -> str:
        """The form on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The form in the environment."""
        return "FASTSCP_" + self.name.upper()

    def show(self, value: Any) -> str:
        """A value of this option as text; "" for an empty list."""
        show = self.declared.kind.show
        return ", ".join(show(one) for one in value) if self.declared.kind.many else show(value)


def options_of(table: type[msgspec.Struct]) -> dict[str, Option]:
    """The options that a class of settings declares, by name and in the order of the help."""
    hints = get_type_hints(table, include_extras=True)
    defaults = table()
    return {
        declared.name: Option(attribute, declared, getattr(defaults, attribute))
        for attribute, hint in hints.items()
        for declared in hint.__metadata__
    }


OPTIONS = options_of(Settings)
"""All options by name, in the order of the help."""
