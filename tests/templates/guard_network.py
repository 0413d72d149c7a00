"""The promises about network, load balancer and tasks as rules over resolved templates; see guard.py."""

from collections.abc import Iterator
from typing import Any

from fastscp.errors import ConfigError
from fastscp.local.templates import Resolved, Resource
from fastscp.settings import Settings, inspect_settings
from tests.templates.deployments import CERTIFICATE, REGION, VARIANTS, of_type
from tests.templates.guard import TLS_POLICIES, attributes, rule

PEERS = {
    "PeerCIDR1": "CidrIp",
    "PeerCIDR2": "CidrIp",
    "PeerCIDR3": "CidrIp",
    "PeerPrefixListID": "SourcePrefixListId",
    "SecurityGroupID": "SourceSecurityGroupId",
}

REACHING_AWS = {"Network/TaskSecurityGroup", "Network/FunctionSecurityGroup"}


def container(resolved: Resolved) -> dict[str, Any]:
    definition: dict[str, Any] = resolved.resources["Receiver/TaskDefinition"].properties["ContainerDefinitions"][0]
    return definition


def environment(resolved: Resolved) -> dict[str, str]:
    return {pair["Name"]: str(pair["Value"]) for pair in container(resolved)["Environment"]}


def accepted(given: dict[str, str]) -> Settings:
    """The receiver's settings out of these variables. Raises ConfigError, as the receiver would."""
    inspection = inspect_settings({}, given)
    if inspection.settings is None:
        raise inspection.problems[0]
    return inspection.settings


def ingress(resolved: Resolved, group: Resource) -> list[dict[str, Any]]:
    """The rules that let into a security group: those in it, and those beside it."""
    beside = [r.properties for _, r in of_type(resolved, "AWS::EC2::SecurityGroupIngress") if r.properties["GroupId"] == group.ref]
    return [*group.properties.get("SecurityGroupIngress", []), *beside]


@rule
def peers_reach_the_load_balancer_and_nobody_else(resolved: Resolved) -> Iterator[str]:
    balancer = resolved.resources["Network/LoadBalancerSecurityGroup"]
    given = {value for parameters in VARIANTS.values() for name, value in parameters.items() if name in PEERS}
    ports = {int(listener.properties["Port"]) for _, listener in of_type(resolved, "AWS::ElasticLoadBalancingV2::Listener")}
    found = ingress(resolved, balancer)
    if not found:
        yield "nobody reaches the load balancer"
    for one in found:
        source = next(one[member] for member in PEERS.values() if member in one)
        if source not in given:
            yield f"{source} reaches the load balancer"
        if int(one["FromPort"]) != int(one["ToPort"]) or int(one["FromPort"]) not in ports:
            yield f"ports {one['FromPort']} to {one['ToPort']} of the load balancer are open"
    tasks = resolved.resources["Network/TaskSecurityGroup"]
    if [one.get("SourceSecurityGroupId") for one in ingress(resolved, tasks)] != [balancer.ref]:
        yield "somebody else than the load balancer reaches the tasks"
    if ingress(resolved, resolved.resources["Network/FunctionSecurityGroup"]):
        yield "somebody reaches the functions"
    for path, group in of_type(resolved, "AWS::EC2::SecurityGroup"):
        for out in group.properties.get("SecurityGroupEgress", []):
            if (out["IpProtocol"], out["FromPort"], out["ToPort"]) != ("tcp", 443, 443):
                yield f"{path} reaches more than HTTPS"
            if out["CidrIp"] != ("0.0.0.0/0" if path in REACHING_AWS else "127.0.0.1/32"):
                yield f"{path} reaches {out['CidrIp']}"
        if not group.properties.get("SecurityGroupEgress"):
            yield f"{path} has no rule for what leaves it, so everything may"
    beside = [(path, one.properties) for path, one in of_type(resolved, "AWS::EC2::SecurityGroupEgress")]
    port = int(container(resolved)["PortMappings"][0]["ContainerPort"])
    if [(one["GroupId"], one["DestinationSecurityGroupId"], int(one["FromPort"]), int(one["ToPort"])) for _, one in beside] != [
        (balancer.ref, tasks.ref, port, port)
    ]:
        yield "the load balancer reaches something else than the tasks"
    if any(one["IpProtocol"] != "tcp" for one in [*found, *ingress(resolved, tasks), *(one for _, one in beside)]):
        yield "more than TCP is let in"
    (task,) = ingress(resolved, tasks)
    if (int(task["FromPort"]), int(task["ToPort"])) != (port, port):
        yield "another port of the tasks than the receiver's is open"
    homes = {group.properties["VpcId"] for _, group in of_type(resolved, "AWS::EC2::SecurityGroup")}
    if homes != {resolved.resources["Receiver/TargetGroup"].properties["VpcId"]}:
        yield "security groups are of another VPC"


@rule
def plaintext_is_asked_for(resolved: Resolved) -> Iterator[str]:
    listeners = [listener.properties for _, listener in of_type(resolved, "AWS::ElasticLoadBalancingV2::Listener")]
    tls = [listener for listener in listeners if listener["Protocol"] == "TLS"]
    for listener in tls:
        if (
            listener["Port"] != 2762
            or listener["SslPolicy"] not in TLS_POLICIES
            or listener["Certificates"] != [{"CertificateArn": CERTIFICATE}]
        ):
            yield "the TLS listener is not what it should be"
    plain = [listener for listener in listeners if listener["Protocol"] != "TLS"]
    if any(listener["Protocol"] != "TCP" for listener in plain):
        yield "a listener is neither TCP nor TLS"
    asked = any(p.get("AllowPlaintext") == "yes" for p in VARIANTS.values() if p.get("TLSCertificateARN"))
    if tls and len(plain) > asked:
        yield "a listener without TLS is beside the one with"
    if resolved.resources["Receiver/LoadBalancer"].properties["Scheme"] == "internet-facing" and plain:
        yield "plaintext over the internet"
    for listener in plain:
        if attributes(listener["ListenerAttributes"]) != {"tcp.idle_timeout.seconds": "6000"}:
            yield "the load balancer forgets connections before the receiver does"


@rule
def no_association_is_cut(resolved: Resolved) -> Iterator[str]:
    group = resolved.resources["Receiver/TargetGroup"].properties
    found = attributes(group["TargetGroupAttributes"])
    for name in (
        "deregistration_delay.connection_termination.enabled",
        "target_health_state.unhealthy.connection_termination.enabled",
        "stickiness.enabled",
    ):
        if found.get(name) != "false":
            yield f"{name} is not false"
    if found.get("deregistration_delay.timeout_seconds") != "3600":
        yield "a task that leaves has less than an hour for its associations"
    if (group["HealthCheckProtocol"], group["HealthCheckPort"]) != ("TCP", "traffic-port"):
        yield "the load balancer asks for something that a busy task may refuse"
    if (
        attributes(resolved.resources["Receiver/LoadBalancer"].properties["LoadBalancerAttributes"])["load_balancing.cross_zone.enabled"]
        != "true"
    ):
        yield "a zone without a task is in DNS"
    service = resolved.resources["Receiver/Service"].properties
    deployment = service["DeploymentConfiguration"]
    if deployment["DeploymentCircuitBreaker"] != {"Enable": True, "Rollback": True} or deployment["MinimumHealthyPercent"] < 100:
        yield "an update may take tasks away before others are there"
    if "DesiredCount" in service:
        yield "an update sets the number of tasks back"
    if found["proxy_protocol_v2.enabled"] == found["preserve_client_ip.enabled"] == "true":
        yield "client addresses are told twice"


@rule
def it_scales_with_load(resolved: Resolved) -> Iterator[str]:
    target = resolved.resources["Receiver/ScalableTarget"].properties
    cluster, service = resolved.resources["Receiver/Cluster"].ref, resolved.resources["Receiver/Service"].ref.rpartition("/")[2]
    if target["ResourceId"] != f"service/{cluster}/{service}" or int(target["MinCapacity"]) < 1:
        yield "another service is scaled"
    goals = {}
    for _, policy in of_type(resolved, "AWS::ApplicationAutoScaling::ScalingPolicy"):
        tracked = policy.properties["TargetTrackingScalingPolicyConfiguration"]
        predefined, own = tracked.get("PredefinedMetricSpecification"), tracked.get("CustomizedMetricSpecification")
        goals[predefined["PredefinedMetricType"] if predefined else own["MetricName"]] = tracked["TargetValue"]
        if own and (own["Namespace"], own["Statistic"]) != (environment(resolved).get("FASTSCP_EMF_NAMESPACE"), "Average"):
            yield "scaling looks at what no task says of itself"
        if (tracked["ScaleInCooldown"], tracked["ScaleOutCooldown"]) != (60, 60):
            yield "scaling waits"
    # At the whole budget a task reads no further: before that others have to be there.
    if goals.get("ECSServiceAverageCPUUtilization") != 50 or not 0 < goals.get("BudgetUsed", 0) <= 75:
        yield f"scaling aims at {goals}"


@rule
def the_drain_ladder_holds(resolved: Resolved) -> Iterator[str]:
    try:
        settings = accepted(environment(resolved))
    except ConfigError as error:
        yield f"the receiver refuses it: {error}"
        return
    if settings.stop_timeout_s != container(resolved)["StopTimeout"] or settings.stop_timeout_s > 120:
        yield f"the receiver believes that it has {settings.stop_timeout_s} s"


@rule
def proxy_headers_are_believed_from_the_load_balancer_only(resolved: Resolved) -> Iterator[str]:
    trusted = accepted(environment(resolved)).proxy_protocol
    sent = attributes(resolved.resources["Receiver/TargetGroup"].properties["TargetGroupAttributes"])["proxy_protocol_v2.enabled"]
    if bool(trusted) != (sent == "true"):
        yield "load balancer and receiver do not agree on the PROXY protocol"
    balancer = resolved.resources["Receiver/LoadBalancer"].properties["Subnets"]
    subnets = [subnet.properties["CidrBlock"] for _, subnet in of_type(resolved, "AWS::EC2::Subnet") if subnet.ref in balancer]
    if trusted and subnets and sorted(map(str, trusted)) != sorted(subnets):
        yield f"headers are believed from {trusted}"


@rule
def tasks_are_confined(resolved: Resolved) -> Iterator[str]:
    task, receiver = resolved.resources["Receiver/TaskDefinition"].properties, container(resolved)
    if not receiver["ReadonlyRootFilesystem"] or receiver["Privileged"] or receiver["User"] != "10001:10001":
        yield "the container may write to its image, or is privileged, or root"
    if receiver["LinuxParameters"] != {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}:
        yield "the container has capabilities, or no init process"
    if receiver["MountPoints"] != [{"SourceVolume": "scratch", "ContainerPath": "/tmp", "ReadOnly": False}]:
        yield "the container has no place for temporary files, or more than that"
    if task["NetworkMode"] != "awsvpc" or task["RequiresCompatibilities"] != ["FARGATE"]:
        yield "tasks share a machine"
    if "/livez" not in receiver["HealthCheck"]["Command"][-1]:
        yield "the container's health is not that of the process alone"
    if {u["Name"]: u["HardLimit"] for u in receiver["Ulimits"]}.get("nofile", 0) < 65535:
        yield "the container has few descriptors"
    if environment(resolved).get("FASTSCP_ADMIN_HOST") != "127.0.0.1" or len(receiver["PortMappings"]) != 1:
        yield "the admin port is reachable"
    service = resolved.resources["Receiver/Service"].properties
    if service["EnableExecuteCommand"] or service["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] != "DISABLED":
        yield "tasks can be entered, or have public addresses"


@rule
def the_receiver_takes_its_settings(resolved: Resolved) -> Iterator[str]:
    given = environment(resolved)
    settings = accepted(given)
    dicom = resolved.resources["Storage/DicomBucket"]
    if (settings.store.kind, settings.store.bucket) != ("s3", dicom.ref):
        yield f"the receiver stores in {settings.store}"
    first = dicom.properties["NotificationConfiguration"]["QueueConfigurations"][0]["Filter"]["S3Key"]["Rules"][0]["Value"]
    if first != (f"{settings.store.path}/" if settings.store.path else "") + "batches/":
        yield "the receiver stores under another prefix than the one whose events are taken"
    if settings.port != int(container(resolved)["PortMappings"][0]["ContainerPort"]):
        yield "the receiver listens on another port than the one that is mapped"
    if (settings.aet, settings.aws_region) != (resolved.outputs["DICOMAETitle"], REGION):
        yield "the receiver has another AE title, or its bucket another Region"
    if settings.log_format != "json":
        yield "the log is not what CloudWatch takes metrics out of"
