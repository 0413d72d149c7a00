"""The promises about a VPC that is made as rules over resolved templates: routes, endpoints, ACLs, flow log; see guard.py."""

import ipaddress
from collections.abc import Iterator
from typing import Any

from fastscp.local.templates import Resolved, Resource
from tests.templates.deployments import ACCOUNT, REGION, of_type
from tests.templates.guard import rule

ENDPOINTS = {"ecr.api", "ecr.dkr", "logs", "states", "sqs", "sts", "medical-imaging", "s3", "dynamodb"}
# Where ECR keeps the layers of images, in an account of AWS: https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
LAYERS = {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::prod-{REGION}-starport-layer-bucket/*"}
OUTSIDE = "198.51.100.7"
PORTS = (22, 80, 443, 1023, 1024, 2762, 11112, 65535)


def subnets(resolved: Resolved, kind: str) -> list[Resource]:
    return [subnet for path, subnet in of_type(resolved, "AWS::EC2::Subnet") if path.startswith(f"Network/{kind}")]


def refs(found: list[Resource]) -> set[str]:
    return {one.ref for one in found}


def associated(resolved: Resolved, kind: str, member: str, subnet: Resource) -> list[str]:
    """What a subnet is associated with: its route tables, its ACLs."""
    return [a.properties[member] for _, a in of_type(resolved, kind) if a.properties["SubnetId"] == subnet.ref]


@rule
def the_vpc_is_closed(resolved: Resolved) -> Iterator[str]:
    made = [vpc for _, vpc in of_type(resolved, "AWS::EC2::VPC")]
    if not made:
        return
    if not (made[0].properties["EnableDnsSupport"] and made[0].properties["EnableDnsHostnames"]):
        yield "the names of AWS do not lead to the endpoints"
    everywhere = [*subnets(resolved, "Private"), *subnets(resolved, "Public")]
    for kind in ("Private", "Public"):
        if len({subnet.properties["AvailabilityZone"] for subnet in subnets(resolved, kind)}) != 2:
            yield f"the {kind.lower()} subnets are not in two zones"
    networks = [ipaddress.ip_network(subnet.properties["CidrBlock"]) for subnet in everywhere]
    if len(set(networks)) != 4 or not all(one.subnet_of(ipaddress.ip_network(made[0].properties["CidrBlock"])) for one in networks):  # type: ignore[arg-type]
        yield "the subnets overlap, or are outside the VPC"
    if any(subnet.properties["MapPublicIpOnLaunch"] for subnet in everywhere):
        yield "a subnet gives public addresses"
    of_a_vpc = ("Subnet", "RouteTable", "NetworkAcl", "VPCEndpoint", "VPCGatewayAttachment")
    for path, one in of_type(resolved, *(f"AWS::EC2::{name}" for name in of_a_vpc)):
        if one.properties["VpcId"] != made[0].ref:
            yield f"{path} is of another VPC"
    used = {*resolved.resources["Receiver/Service"].properties["NetworkConfiguration"]["AwsvpcConfiguration"]["Subnets"]}
    for _, function in of_type(resolved, "AWS::Lambda::Function"):
        used |= set(function.properties["VpcConfig"]["SubnetIds"])
    if used != refs(subnets(resolved, "Private")):
        yield "tasks or functions are outside the private subnets"


@rule
def routes_lead_where_they_should(resolved: Resolved) -> Iterator[str]:
    gateways = {gateway.ref: gateway.properties["SubnetId"] for _, gateway in of_type(resolved, "AWS::EC2::NatGateway")}
    zones = {subnet.ref: subnet.properties["AvailabilityZone"] for _, subnet in of_type(resolved, "AWS::EC2::Subnet")}
    for kind in ("Private", "Public"):
        for subnet in subnets(resolved, kind):
            tables = associated(resolved, "AWS::EC2::SubnetRouteTableAssociation", "RouteTableId", subnet)
            if len(tables) != 1:
                yield f"{subnet.ref} has {len(tables)} route tables"
            routes = [r.properties for _, r in of_type(resolved, "AWS::EC2::Route") if r.properties["RouteTableId"] in tables]
            leaving = [set(route) - {"RouteTableId", "DestinationCidrBlock"} for route in routes]
            if any(route["DestinationCidrBlock"] != "0.0.0.0/0" for route in routes):
                yield f"{subnet.ref} has a route that is not the default"
            if kind == "Public" and leaving != [{"GatewayId"}]:
                yield f"{subnet.ref} is not routed to the internet"
            if kind == "Private" and leaving != ([{"NatGatewayId"}] if gateways else []):
                yield f"{subnet.ref} is routed to the internet"
            for route in routes:
                if "NatGatewayId" in route and zones[gateways[route["NatGatewayId"]]] != subnet.properties["AvailabilityZone"]:
                    yield f"{subnet.ref} leaves through the other zone"
    attached = {a.properties["InternetGatewayId"] for _, a in of_type(resolved, "AWS::EC2::VPCGatewayAttachment")}
    used = {r.properties["GatewayId"] for _, r in of_type(resolved, "AWS::EC2::Route") if "GatewayId" in r.properties}
    if not attached == used == {gateway.ref for _, gateway in of_type(resolved, "AWS::EC2::InternetGateway")}:
        yield "the route leads to a gateway that the VPC has not"
    public = refs(subnets(resolved, "Public"))
    if not set(gateways.values()) <= public or len(set(gateways.values())) not in (0, len(public)):
        yield "a zone lacks its NAT gateway, or has it in a private subnet"


def policy_of(service: str) -> list[dict[str, Any]]:
    """What the endpoint of a service lets through: this account's principals or resources, and the layers of images."""
    if service == "s3":
        return [{"Action": "s3:*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceAccount": ACCOUNT}}}, LAYERS]
    if service == "dynamodb":
        return [{"Action": "dynamodb:*", "Resource": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/*"}]
    return [{"Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}}]


@rule
def endpoints_serve_this_account(resolved: Resolved) -> Iterator[str]:
    endpoints = dict(of_type(resolved, "AWS::EC2::VPCEndpoint"))
    if not endpoints:
        return
    found = {one.properties["ServiceName"].removeprefix(f"com.amazonaws.{REGION}.") for one in endpoints.values()}
    if found != ENDPOINTS:
        yield f"endpoints: {found ^ ENDPOINTS}"
    private = subnets(resolved, "Private")
    tables = {table for one in private for table in associated(resolved, "AWS::EC2::SubnetRouteTableAssociation", "RouteTableId", one)}
    group = resolved.resources["Network/EndpointSecurityGroup"]
    for path, one in endpoints.items():
        properties = one.properties
        service = properties["ServiceName"].removeprefix(f"com.amazonaws.{REGION}.")
        statements = [dict(statement) for statement in properties.get("PolicyDocument", {}).get("Statement", [])]
        for statement in statements:
            statement.pop("Sid")
        if statements != [{"Effect": "Allow", "Principal": "*"} | wanted for wanted in policy_of(service)]:
            yield f"{path} serves anybody, or nobody"
        if properties["VpcEndpointType"] != ("Gateway" if service in ("s3", "dynamodb") else "Interface"):
            yield f"{path} is another kind of endpoint"
        elif properties["VpcEndpointType"] == "Gateway":
            if set(properties["RouteTableIds"]) != tables:
                yield f"{path} is not in the route tables"
        elif not properties["PrivateDnsEnabled"]:
            yield f"{path} is not used, for want of private DNS"
        elif set(properties["SubnetIds"]) != refs(private) or properties["SecurityGroupIds"] != [group.ref]:
            yield f"{path} is somewhere else, or open to others"
    callers = {resolved.resources[f"Network/{name}SecurityGroup"].ref for name in ("Task", "Function")}
    let_in = [(r["IpProtocol"], r["FromPort"], r["ToPort"], r["SourceSecurityGroupId"]) for r in group.properties["SecurityGroupIngress"]]
    if sorted(let_in) != sorted(("tcp", 443, 443, caller) for caller in callers):
        yield "others than tasks and functions reach the endpoints"


def admits(entries: list[dict[str, Any]], egress: bool, address: str, port: int) -> bool:
    """What an ACL says of a TCP packet: the first entry that it matches, by number; without one, no."""
    for entry in sorted(entries, key=lambda one: int(one["RuleNumber"])):
        within = ipaddress.ip_address(address) in ipaddress.ip_network(entry["CidrBlock"])
        if bool(entry.get("Egress")) == egress and within and entry["PortRange"]["From"] <= port <= entry["PortRange"]["To"]:
            return bool(entry["RuleAction"] == "allow")
    return False


@rule
def acls_admit_what_is_used_and_no_more(resolved: Resolved) -> Iterator[str]:
    entries = [entry.properties for _, entry in of_type(resolved, "AWS::EC2::NetworkAclEntry")]
    if any(entry["Protocol"] != 6 for entry in entries):
        yield "an ACL admits more than TCP"
    inside = {
        vpc.ref: str(next(ipaddress.ip_network(vpc.properties["CidrBlock"]).hosts())) for _, vpc in of_type(resolved, "AWS::EC2::VPC")
    }
    for _, subnet in of_type(resolved, "AWS::EC2::Subnet"):
        acls = associated(resolved, "AWS::EC2::SubnetNetworkAclAssociation", "NetworkAclId", subnet)
        if len(acls) != 1:
            yield f"{subnet.ref} has the VPC's default ACL"
        mine = [entry for entry in entries if entry["NetworkAclId"] in acls]
        for address in (OUTSIDE, inside[subnet.properties["VpcId"]]):
            for port in PORTS:
                # Answers to what began inside come back to ports from 1024 on, where the receiver's is as well.
                if admits(mine, False, address, port) != (port >= 1024 or (port == 443 and address != OUTSIDE)):
                    yield f"{subnet.ref}: {address} to port {port}"
                if admits(mine, True, address, port) != (port >= 1024 or port == 443):
                    yield f"{subnet.ref}: out to port {port} of {address}"


@rule
def all_traffic_of_a_vpc_is_logged(resolved: Resolved) -> Iterator[str]:
    for path, vpc in of_type(resolved, "AWS::EC2::VPC"):
        flows = [flow.properties for _, flow in of_type(resolved, "AWS::EC2::FlowLog") if flow.properties["ResourceId"] == vpc.ref]
        if [flow["TrafficType"] for flow in flows] != ["ALL"]:
            yield f"{path} has no flow log"
            continue
        group, role = resolved.resources["Network/FlowLogGroup"], resolved.resources["Network/FlowLogRole"]
        if (flows[0]["ResourceType"], flows[0]["LogDestinationType"]) != ("VPC", "cloud-watch-logs"):
            yield f"{path}: the flow log goes elsewhere"
        if flows[0]["LogGroupName"] != group.ref or flows[0]["DeliverLogsPermissionArn"].rpartition("/")[2] != role.ref:
            yield f"{path}: the flow log goes elsewhere"
