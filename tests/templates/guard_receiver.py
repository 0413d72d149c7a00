"""How load balancer, service, task and scaling are joined as rules over resolved templates; see guard.py."""

from collections.abc import Iterator

from fastscp.local.templates import Resolved
from tests.templates.deployments import REGION, of_type
from tests.templates.guard import attributes, rule
from tests.templates.guard_network import container

CHECK = 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:8080/livez", timeout=5)'


@rule
def connections_reach_the_container(resolved: Resolved) -> Iterator[str]:
    resources = resolved.resources
    balancer, group, service = (resources[f"Receiver/{name}"] for name in ("LoadBalancer", "TargetGroup", "Service"))
    port = int(container(resolved)["PortMappings"][0]["ContainerPort"])
    if balancer.properties["Type"] != "network" or balancer.properties["SecurityGroups"] != [
        resources["Network/LoadBalancerSecurityGroup"].ref
    ]:
        yield "the load balancer is another, or without its security group"
    outside = balancer.properties["Scheme"] == "internet-facing"
    made = {
        s.ref for path, s in of_type(resolved, "AWS::EC2::Subnet") if path.startswith("Network/Public" if outside else "Network/Private")
    }
    if made and set(balancer.properties["Subnets"]) != made:
        yield "the load balancer is in other subnets"
    if balancer.properties["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] != "on":
        yield "the security group does not hold for endpoint services"
    if (group.properties["TargetType"], group.properties["Protocol"], int(group.properties["Port"])) != ("ip", "TCP", port):
        yield "the target group is not for tasks"
    for path, listener in of_type(resolved, "AWS::ElasticLoadBalancingV2::Listener"):
        if listener.properties["LoadBalancerArn"] != balancer.ref:
            yield f"{path} is of another load balancer"
        if listener.properties["DefaultActions"] != [{"Type": "forward", "TargetGroupArn": group.ref}]:
            yield f"{path} leads elsewhere"
        if listener.ref not in attributes(service.properties["Tags"]).values():
            yield f"the service does not wait for {path}"
    joined = {"ContainerName": container(resolved)["Name"], "ContainerPort": str(port), "TargetGroupArn": group.ref}
    if [{name: str(value) for name, value in one.items()} for one in service.properties["LoadBalancers"]] != [joined]:
        yield "the service is not behind the load balancer"
    if service.properties["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"] != [resources["Network/TaskSecurityGroup"].ref]:
        yield "tasks have another security group"


@rule
def the_service_runs_the_task(resolved: Resolved) -> Iterator[str]:
    resources, receiver = resolved.resources, container(resolved)
    service, task = resources["Receiver/Service"].properties, resources["Receiver/TaskDefinition"].properties
    if (service["Cluster"], service["TaskDefinition"]) != (resources["Receiver/Cluster"].ref, resources["Receiver/TaskDefinition"].ref):
        yield "the service runs something else, or somewhere else"
    if (service["LaunchType"], service["PlatformVersion"]) != ("FARGATE", "LATEST"):
        yield "the service does not run on Fargate"
    if resources["Receiver/Cluster"].properties["ClusterSettings"] != [{"Name": "containerInsights", "Value": "enabled"}]:
        yield "the cluster is not watched"
    roles = [str(task[f"{name}Arn"]).rpartition("/")[2] for name in ("ExecutionRole", "TaskRole")]
    if roles != [resources[f"Receiver/{name}"].ref for name in ("ExecutionRole", "TaskRole")]:
        yield "the task has other roles"
    if task["Volumes"] != [{"Name": "scratch"}] or not receiver["Essential"]:
        yield "the task lacks its volume, or goes on without its container"
    if receiver["HealthCheck"]["Command"] != ["CMD", "python", "-c", CHECK]:
        yield "the container's health is not that of the process alone"
    if receiver["HealthCheck"]["Interval"] * receiver["HealthCheck"]["Retries"] < 90:
        yield "a container that is busy for a moment is stopped"
    log = receiver["LogConfiguration"]
    where = {"awslogs-group": resources["Receiver/LogGroup"].ref, "awslogs-region": REGION, "awslogs-stream-prefix": "receiver"}
    if log["LogDriver"] != "awslogs" or log["Options"] != where | {"mode": "non-blocking", "max-buffer-size": "16m"}:
        yield "the log goes elsewhere, or a log that is not taken stops the receiver"
    target = resources["Receiver/ScalableTarget"]
    if (target.properties["ServiceNamespace"], target.properties["ScalableDimension"]) != ("ecs", "ecs:service:DesiredCount"):
        yield "something else is scaled"
    for path, policy in of_type(resolved, "AWS::ApplicationAutoScaling::ScalingPolicy"):
        if (policy.properties["PolicyType"], policy.properties["ScalingTargetId"]) != ("TargetTrackingScaling", target.ref):
            yield f"{path} scales something else"


@rule
def a_busy_task_stays_a_target(resolved: Resolved) -> Iterator[str]:
    group, service = (resolved.resources[f"Receiver/{name}"].properties for name in ("TargetGroup", "Service"))
    if group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"] < 90 or group["HealthCheckTimeoutSeconds"] < 10:
        yield "a task that is busy for a moment gets no connections"
    found = attributes(group["TargetGroupAttributes"])
    if found.get("target_health_state.unhealthy.draining_interval_seconds") != "3600":
        yield "a task that fails its checks has less than an hour for its associations"
    if service.get("AvailabilityZoneRebalancing") != "DISABLED":
        yield "tasks are moved between zones, with their associations"
    if service["DeploymentConfiguration"]["MaximumPercent"] < 200 or service["HealthCheckGracePeriodSeconds"] < 60:
        yield "new tasks have no place beside the old ones, or no time to come up"
    protected = attributes(resolved.resources["Receiver/LoadBalancer"].properties["LoadBalancerAttributes"])
    if protected.get("deletion_protection.enabled") != "true":
        yield "the address that modalities know may be deleted"
