"""What CloudFormation's Ref and Fn::GetAtt give for a resource, by its type.

Enters: type, name. Leaves: names, ARNs, URLs. Never: an attribute for a type that is not in the tables.
"""

import hashlib
from collections.abc import Mapping

PSEUDO_PARAMETERS = {"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}

# https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html
# Of a type: what Ref gives. {name} is the physical name, {lower} the same in lower case, {digits} digits made of it.
_REFERENCES = {
    "AWS::S3::Bucket": "{lower}",
    "AWS::SQS::Queue": "https://sqs.{region}.amazonaws.com/{account}/{name}",
    "AWS::DynamoDB::Table": "{name}",
    "AWS::Lambda::Function": "{name}",
    "AWS::IAM::Role": "{name}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::{account}:policy/{name}",
    "AWS::StepFunctions::StateMachine": "arn:aws:states:{region}:{account}:stateMachine:{name}",
    "AWS::Logs::LogGroup": "{name}",
    "AWS::HealthImaging::Datastore": "{digits:.32}",
    "AWS::SNS::Topic": "arn:aws:sns:{region}:{account}:{name}",
    "AWS::ECR::Repository": "{lower}",
    "AWS::ECS::TaskDefinition": "arn:aws:ecs:{region}:{account}:task-definition/{name}:1",
    "AWS::ECS::Service": "arn:aws:ecs:{region}:{account}:service/{name}",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{digits:.16}",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{name}/{digits:.16}",
    "AWS::EC2::VPC": "vpc-{digits:.17}",
    "AWS::EC2::Subnet": "subnet-{digits:.17}",
    "AWS::EC2::SecurityGroup": "sg-{digits:.17}",
}
_ATTRIBUTES = {
    "AWS::S3::Bucket": {"Arn": "arn:aws:s3:::{lower}"},
    "AWS::SQS::Queue": {"Arn": "arn:aws:sqs:{region}:{account}:{name}", "QueueName": "{name}"},
    "AWS::DynamoDB::Table": {"Arn": "arn:aws:dynamodb:{region}:{account}:table/{name}"},
    "AWS::Lambda::Function": {"Arn": "arn:aws:lambda:{region}:{account}:function:{name}"},
    "AWS::IAM::Role": {"Arn": "arn:aws:iam::{account}:role/{name}"},
    "AWS::KMS::Key": {"Arn": "arn:aws:kms:{region}:{account}:key/{digits:.32}"},
    "AWS::StepFunctions::StateMachine": {"Name": "{name}"},
    "AWS::Logs::LogGroup": {"Arn": "arn:aws:logs:{region}:{account}:log-group:{name}:*"},
    "AWS::HealthImaging::Datastore": {"DatastoreId": "{digits:.32}"},
    "AWS::SNS::Topic": {"TopicName": "{name}"},
    "AWS::ECR::Repository": {
        "Arn": "arn:aws:ecr:{region}:{account}:repository/{lower}",
        "RepositoryUri": "{account}.dkr.ecr.{region}.amazonaws.com/{lower}",
    },
    "AWS::EC2::EIP": {"AllocationId": "eipalloc-{digits:.17}"},
    "AWS::ECS::Service": {"Name": "{name}"},
    "AWS::ElasticLoadBalancingV2::LoadBalancer": {
        "DNSName": "{lower}.elb.{region}.amazonaws.com",
        "LoadBalancerFullName": "net/{name}/{digits:.16}",
    },
    "AWS::ElasticLoadBalancingV2::TargetGroup": {"TargetGroupFullName": "targetgroup/{name}/{digits:.16}"},
}


def reference_of(kind: str, name: str, pseudo: Mapping[str, str]) -> str:
    """What Ref gives: for types that are not in the table the name."""
    return _filled(_REFERENCES.get(kind, "{name}"), name, pseudo)


def attribute_of(kind: str, name: str, attribute: str, pseudo: Mapping[str, str]) -> str:
    """What Fn::GetAtt gives. Raises KeyError where the table lacks it."""
    return _filled(_ATTRIBUTES[kind][attribute], name, pseudo)


def _filled(form: str, name: str, pseudo: Mapping[str, str]) -> str:
    return form.format(
        name=name,
        lower=name.lower(),
        digits=hashlib.sha256(name.encode()).hexdigest(),
        region=pseudo["AWS::Region"],
        account=pseudo["AWS::AccountId"],
    )
