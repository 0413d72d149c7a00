"""The deployments that the rules are held against, and what they resolve to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from fastscp.local.templates import Resolved, Resource, resolve

CFN = Path(__file__).parents[2] / "cfn"
ACCOUNT, REGION = "123456789012", "us-east-1"
CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/0123-abcd"
CUSTOMER_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0123-abcd"
LEAST = {
    "ImageURI": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/fastscp@sha256:{'0' * 64}",
    "RepositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/fastscp",
    "ArtifactBucket": "artefacts",
    "ArtifactPrefix": "fastscp/0123/",
    "PeerCIDR1": "10.20.0.0/16",
}
"""What has no default, and one network that may send."""
PEERS = {"PeerCIDR2": "192.0.2.0/24", "PeerCIDR3": "198.51.100.0/24", "PeerPrefixListID": "pl-0123abcd", "SecurityGroupID": "sg-0123abcd"}
VARIANTS = {
    "defaults": LEAST,
    "customer-key": LEAST | {"KmsKey": CUSTOMER_KEY, "RestrictToVpc": "yes", "DataEventTrail": "yes", "DicomRetentionDays": "30"},
    "created-key": LEAST
    | {
        "RestrictToVpc": "yes",
        "RestrictToCIDRs": "192.0.2.0/24",
        "KmsKey": "create",
        "DatastoreID": "0" * 32,
        "DicomPrefix": "hospital",
        "ResultsPrefix": "imports",
        "FunctionConcurrency": "20",
        "FunctionMemory": "2048",
    },
    "tls": LEAST
    | PEERS
    | {
        "LoadBalancerScheme": "internet-facing",
        "TLSCertificateARN": CERTIFICATE,
        "NatGateway": "yes",
        "ClientAddress": "proxy-protocol",
        "AlarmEmail": "alarms@example.org",
    },
    "tls-and-plaintext": LEAST | {"TLSCertificateARN": CERTIFICATE, "AllowPlaintext": "yes", "RequireCallingAETitle": "CT1,CT2"} | PEERS,
    "existing-vpc": LEAST
    | {
        "VpcID": "vpc-0123abcd",
        "VpcCIDR": "172.16.0.0/16",
        "PrivateSubnetIDs": "subnet-0123abcd,subnet-0123abce",
        "PublicSubnetIDs": "subnet-0123abcf,subnet-0123abd0",
    },
}


def deployed(variant: str, directory: Path = CFN) -> Resolved:
    return resolve(directory / "main.yaml", VARIANTS[variant], region=REGION, account=ACCOUNT)


def of_type(resolved: Resolved, *types: str) -> Iterator[tuple[str, Resource]]:
    return ((path, resource) for path, resource in resolved.resources.items() if resource.type in types)


def changed(directory: Path, file: str, old: str, new: str) -> Path:
    """A copy of the templates in which one passage is another. The passage must be there."""
    shutil.copytree(CFN, directory, dirs_exist_ok=True)
    path = directory / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{file} lacks {old!r}"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return directory
