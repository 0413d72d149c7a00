"""Every promise holds in every deployment; and each rule notices when a template breaks its promise."""

from pathlib import Path

import pytest

from fastscp.local.templates import resolve
from tests.templates import guard_network, guard_wiring  # noqa: F401 - they register their rules
from tests.templates.deployments import CFN, VARIANTS, changed, deployed
from tests.templates.guard import RULES

S, N, R, W, M, MAIN = "storage.yaml", "network.yaml", "receiver.yaml", "workflow.yaml", "monitoring.yaml", "main.yaml"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_promise_holds(variant: str) -> None:
    resolved = deployed(variant)
    assert {name: broken for name, rule in RULES.items() if (broken := list(rule(resolved)))} == {}


# Rule, deployment, file, what is there, what it is changed to.
MUTATIONS = [
    ("buckets_are_private", "defaults", S, "RestrictPublicBuckets: true", "RestrictPublicBuckets: false"),
    ("buckets_are_private", "defaults", S, "ObjectOwnership: BucketOwnerEnforced", "ObjectOwnership: ObjectWriter"),
    ("buckets_are_private", "defaults", S, "AccelerationStatus: Suspended", "AccelerationStatus: Enabled"),
    (
        "only_tls_reaches_data",
        "defaults",
        S,
        "Condition: { Bool: { 'aws:SecureTransport': 'false' } }",
        "Condition: { Bool: { 'aws:SecureTransport': 'true' } }",
    ),
    ("only_tls_reaches_data", "defaults", S, "'s3:TlsVersion': '1.2'", "'s3:TlsVersion': '1.0'"),
    ("only_tls_reaches_data", "defaults", M, "Effect: Deny", "Effect: Allow"),
    ("data_is_encrypted", "defaults", S, "SqsManagedSseEnabled: !If [HasKey, !Ref AWS::NoValue, true]", "SqsManagedSseEnabled: false"),
    ("data_is_encrypted", "customer-key", S, "KmsKeyArn: !If [HasKey", "KmsKeyArn: !If [CreateKey"),
    ("data_is_encrypted", "customer-key", M, "KmsMasterKeyId: !If [HasKey", "KmsMasterKeyId: !If [HasEmail"),
    ("data_is_encrypted", "customer-key", R, "KmsKeyId: !If [HasKey", "KmsKeyId: !If [HasTls"),
    (
        "the_key_is_used_through_services_only",
        "customer-key",
        R,
        "Action: [kms:Decrypt, kms:GenerateDataKey]",
        "Action: [kms:Decrypt, kms:Encrypt]",
    ),
    ("the_key_is_used_through_services_only", "customer-key", R, "'s3.${AWS::Region}.amazonaws.com'", "'sqs.${AWS::Region}.amazonaws.com'"),
    ("the_key_is_used_through_services_only", "created-key", S, "EnableKeyRotation: true", "EnableKeyRotation: false"),
    (
        "nothing_waiting_for_a_person_expires",
        "customer-key",
        S,
        "Prefix: !Sub '${DicomRoot}inbox/'",
        "Prefix: !Sub '${DicomRoot}quarantine/'",
    ),
    ("nothing_waiting_for_a_person_expires", "customer-key", S, "Prefix: !Sub '${DicomRoot}inbox/'", "Prefix: !Ref DicomRoot"),
    (
        "nothing_waiting_for_a_person_expires",
        "defaults",
        S,
        "- Id: IncompleteUploads\n            Status: Enabled",
        "- Id: IncompleteUploads\n            Status: Disabled",
    ),
    (
        "accesses_are_logged",
        "defaults",
        S,
        "LoggingConfiguration: { DestinationBucketName: !Ref AccessLogBucket",
        "LoggingConfiguration: { DestinationBucketName: other",
    ),
    ("accesses_are_logged", "defaults", N, "TrafficType: ALL", "TrafficType: REJECT"),
    ("accesses_are_logged", "defaults", W, "TracingConfiguration: { Enabled: true }", "TracingConfiguration: { Enabled: false }"),
    ("accesses_are_logged", "defaults", R, "RetentionInDays: !Ref LogRetentionDays", "RetentionInDays: !Ref AWS::NoValue"),
    ("tables_can_be_restored", "defaults", S, "PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false"),
    ("roles_hold_no_more_than_they_name", "defaults", W, "Action: states:StartExecution", "Action: states:*"),
    ("roles_hold_no_more_than_they_name", "defaults", W, "Resource: !Sub '${DicomBucketArn}/${DicomRoot}open/*'", "Resource: '*'"),
    (
        "roles_are_taken_by_one_service_for_this_account",
        "defaults",
        R,
        "'aws:SourceAccount': !Ref AWS::AccountId",
        "'aws:SourceAccount': '210987654321'",
    ),
    (
        "roles_are_taken_by_one_service_for_this_account",
        "defaults",
        W,
        "Principal: { Service: medical-imaging.amazonaws.com }",
        "Principal: { AWS: '*' }",
    ),
    (
        "healthimaging_acts_for_this_data_store_only",
        "defaults",
        W,
        "datastore/${DatastoreID}'\n      Policies",
        "datastore/*'\n      Policies",
    ),
    (
        "healthimaging_acts_for_this_data_store_only",
        "defaults",
        W,
        "Action: iam:PassRole\n                Resource: !GetAtt DataAccessRole.Arn",
        "Action: iam:PassRole\n                Resource: !GetAtt CheckStatusRole.Arn",
    ),
    (
        "healthimaging_acts_for_this_data_store_only",
        "defaults",
        W,
        "'iam:PassedToService': medical-imaging",
        "'iam:PassedToService': ecs-tasks",
    ),
    ("each_function_has_a_role_of_its_own", "defaults", W, "Role: !GetAtt SweepBatchesRole.Arn", "Role: !GetAtt TriggerImportRole.Arn"),
    ("each_function_has_a_role_of_its_own", "defaults", W, "TracingConfig: { Mode: Active }", "TracingConfig: { Mode: PassThrough }"),
    (
        "functions_cannot_use_what_lambda_needs",
        "defaults",
        W,
        "Effect: Deny\n            Action: ec2:*",
        "Effect: Allow\n            Action: ec2:*",
    ),
    (
        "leaving_the_vpc_is_refused_where_asked_for",
        "customer-key",
        R,
        "ManagedPolicyArns: !If [HasNetworkCondition,",
        "ManagedPolicyArns: !If [HasTls,",
    ),
    ("peers_reach_the_load_balancer_and_nobody_else", "defaults", N, "CidrIp: !Ref PeerCIDR1", "CidrIp: 0.0.0.0/0"),
    ("peers_reach_the_load_balancer_and_nobody_else", "defaults", N, "FromPort: !Ref SCPPort", "FromPort: 0"),
    (
        "peers_reach_the_load_balancer_and_nobody_else",
        "defaults",
        N,
        "SourceSecurityGroupId: !Ref LoadBalancerSecurityGroup",
        "CidrIp: !Ref VpcCIDR",
    ),
    (
        "peers_reach_the_load_balancer_and_nobody_else",
        "defaults",
        N,
        "IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0",
        "IpProtocol: '-1', FromPort: 0, ToPort: 0, CidrIp: 0.0.0.0/0",
    ),
    (
        "plaintext_is_asked_for",
        "tls",
        MAIN,
        "HasPlaintext: !Or [!Equals [!Ref TLSCertificateARN, '']",
        "HasPlaintext: !Or [!Equals [!Ref VpcID, '']",
    ),
    ("plaintext_is_asked_for", "tls", R, "ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "ELBSecurityPolicy-2016-08"),
    ("plaintext_is_asked_for", "defaults", R, "Value: '6000'", "Value: '350'"),
    (
        "no_association_is_cut",
        "defaults",
        R,
        "unhealthy.connection_termination.enabled, Value: 'false'",
        "unhealthy.connection_termination.enabled, Value: 'true'",
    ),
    (
        "no_association_is_cut",
        "defaults",
        R,
        "deregistration_delay.connection_termination.enabled, Value: 'false'",
        "deregistration_delay.connection_termination.enabled, Value: 'true'",
    ),
    ("no_association_is_cut", "defaults", R, "DeregistrationDelay: 3600", "DeregistrationDelay: 300"),
    (
        "no_association_is_cut",
        "defaults",
        R,
        "load_balancing.cross_zone.enabled, Value: 'true'",
        "load_balancing.cross_zone.enabled, Value: 'false'",
    ),
    ("no_association_is_cut", "defaults", R, "HealthCheckGracePeriodSeconds: 60", "DesiredCount: 2"),
    ("no_association_is_cut", "defaults", R, "MinimumHealthyPercent: 100", "MinimumHealthyPercent: 50"),
    ("it_scales_with_load", "defaults", R, "Statistic: Average\n        TargetValue: 50", "Statistic: Average\n        TargetValue: 90"),
    ("it_scales_with_load", "defaults", R, "MetricName: BudgetUsed", "MetricName: BytesInFlight"),
    ("it_scales_with_load", "defaults", R, "Value: !Sub 'fastscp/${ServiceName}'", "Value: fastscp"),
    ("the_drain_ladder_holds", "defaults", R, "DrainTimeout: 75", "DrainTimeout: 90"),
    ("the_drain_ladder_holds", "defaults", R, "PutTimeout: 30", "PutTimeout: 80"),
    ("the_drain_ladder_holds", "defaults", R, "StopTimeout: 120", "StopTimeout: 30"),
    ("proxy_headers_are_believed_from_the_load_balancer_only", "tls", R, "Value: !Ref LoadBalancerCIDRs", "Value: 0.0.0.0/0"),
    (
        "proxy_headers_are_believed_from_the_load_balancer_only",
        "tls",
        R,
        "FASTSCP_PROXY_PROTOCOL, Value: !Ref LoadBalancerCIDRs",
        "FASTSCP_PEERS, Value: 0.0.0.0/0",
    ),
    ("tasks_are_confined", "defaults", R, "ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false"),
    ("tasks_are_confined", "defaults", R, "User: '10001:10001'", "User: '0:0'"),
    ("tasks_are_confined", "defaults", R, "Drop: [ALL]", "Drop: []"),
    ("tasks_are_confined", "defaults", R, "AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED"),
    ("tasks_are_confined", "defaults", R, "Value: 127.0.0.1 }", "Value: 0.0.0.0 }"),
    ("tasks_are_confined", "defaults", R, "/livez", "/readyz"),
    ("the_receiver_takes_its_settings", "created-key", R, "s3://${DicomBucketName}/${DicomRoot}", "s3://${DicomBucketName}/"),
    ("the_vpc_is_closed", "defaults", N, "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true"),
    (
        "the_vpc_is_closed",
        "tls",
        N,
        "DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref NatGateway1",
        "DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref InternetGateway",
    ),
    ("the_vpc_is_closed", "defaults", N, "com.amazonaws.${AWS::Region}.medical-imaging", "com.amazonaws.${AWS::Region}.secretsmanager"),
    (
        "the_vpc_is_closed",
        "defaults",
        MAIN,
        "PrivateSubnetIDs: !If [CreateVpc, !GetAtt Network.Outputs.PrivateSubnetIDs",
        "PrivateSubnetIDs: !If [CreateVpc, !GetAtt Network.Outputs.PublicSubnetIDs",
    ),
    ("manifests_and_inbox_files_reach_the_queue", "defaults", S, "Value: !Sub '${DicomRoot}batches/'", "Value: !Sub '${DicomRoot}batch/'"),
    ("manifests_and_inbox_files_reach_the_queue", "created-key", S, "Value: !Sub '${DicomRoot}inbox/'", "Value: inbox/"),
    ("manifests_and_inbox_files_reach_the_queue", "defaults", S, "Value: .json", "Value: .dcm"),
    ("manifests_and_inbox_files_reach_the_queue", "defaults", S, "Event: s3:ObjectCreated:*", "Event: s3:ObjectCreated:Put"),
    (
        "manifests_and_inbox_files_reach_the_queue",
        "defaults",
        S,
        "Queue: !GetAtt ImportQueue.Arn",
        "Queue: !GetAtt ImportDeadLetterQueue.Arn",
    ),
    ("messages_are_tried_and_then_kept", "defaults", S, "Seconds: 720", "Seconds: 60"),
    ("messages_are_tried_and_then_kept", "defaults", S, "maxReceiveCount: 5", "maxReceiveCount: 1"),
    (
        "messages_are_tried_and_then_kept",
        "defaults",
        W,
        "FunctionName: !GetAtt TriggerImportFunction.Arn",
        "FunctionName: !GetAtt CheckStatusFunction.Arn",
    ),
    ("messages_are_tried_and_then_kept", "defaults", W, "[ReportBatchItemFailures]", "[]"),
    ("the_tables_are_those_of_the_workflow", "defaults", S, "IndexName: byStudy", "IndexName: study"),
    (
        "the_tables_are_those_of_the_workflow",
        "defaults",
        S,
        "AttributeName: submittedAt, KeyType: RANGE",
        "AttributeName: batchId, KeyType: RANGE",
    ),
    ("the_tables_are_those_of_the_workflow", "defaults", W, "JOB_TABLE: !Ref JobTableName", "JOB_TABLE: !Ref BatchTableName"),
    (
        "the_functions_have_their_environment",
        "defaults",
        W,
        "RESULTS_BUCKET: !Ref ResultsBucketName",
        "RESULTS_BUCKET: !Ref DicomBucketName",
    ),
    ("the_functions_have_their_environment", "defaults", W, "DATASTORE_ID: !Ref", "DATASTORE: !Ref"),
    (
        "the_functions_have_their_environment",
        "defaults",
        W,
        "stateMachine:${ServiceName}-import'\n          STARTS",
        "stateMachine:import'\n          STARTS",
    ),
    ("the_functions_have_their_environment", "defaults", W, "Handler: check_status.handler.handler", "Handler: check_status.handler"),
    (
        "the_functions_have_their_environment",
        "defaults",
        W,
        "POWERTOOLS_SERVICE_NAME: !Ref ServiceName",
        "POWERTOOLS_SERVICE_NAME: imports",
    ),
    (
        "the_state_machine_calls_the_functions",
        "defaults",
        W,
        "CheckStatusFunctionArn: !GetAtt CheckStatusFunction.Arn",
        "CheckStatusFunctionArn: !GetAtt StartImportJobFunction.Arn",
    ),
    ("the_state_machine_calls_the_functions", "defaults", W, "CheckStatusFunctionArn: !GetAtt", "CheckFunctionArn: !GetAtt"),
    (
        "the_state_machine_calls_the_functions",
        "defaults",
        W,
        "!GetAtt StartImportJobFunction.Arn, !GetAtt CheckStatusFunction.Arn]",
        "!GetAtt StartImportJobFunction.Arn]",
    ),
    ("the_state_machine_calls_the_functions", "defaults", W, "Timeout: !Ref CheckTimeout", "Timeout: 900"),
    ("the_sweeper_runs", "defaults", W, "ScheduleExpression: rate(5 minutes)", "ScheduleExpression: rate(5 hours)"),
    (
        "the_sweeper_runs",
        "defaults",
        W,
        "Arn: !GetAtt SweepBatchesFunction.Arn\n        RoleArn",
        "Arn: !GetAtt CheckStatusFunction.Arn\n        RoleArn",
    ),
    ("the_sweeper_runs", "defaults", W, "execution:${ServiceName}-import:*", "execution:${ServiceName}:*"),
    ("every_alarm_tells_somebody", "defaults", M, "AlarmActions: [!Ref AlarmTopic]", "AlarmActions: []"),
]


@pytest.mark.parametrize(
    ("rule", "variant", "file", "old", "new"), MUTATIONS, ids=[f"{number}-{one[0]}" for number, one in enumerate(MUTATIONS)]
)
def test_a_broken_promise_is_noticed(tmp_path: Path, rule: str, variant: str, file: str, old: str, new: str) -> None:
    resolved = deployed(variant, changed(tmp_path, file, old, new))
    assert list(RULES[rule](resolved))


def test_the_repository_is_scanned_and_its_tags_stay() -> None:
    resolved = resolve(CFN / "repository.yaml", {})
    repository = resolved.resources["Repository"].properties
    assert (repository["ImageScanningConfiguration"], repository["ImageTagMutability"]) == ({"ScanOnPush": True}, "IMMUTABLE")
    for name in ("buckets_are_private", "only_tls_reaches_data", "data_is_encrypted"):
        assert list(RULES[name](resolved)) == []


def test_every_rule_has_been_seen_to_bite() -> None:
    assert {one[0] for one in MUTATIONS} == set(RULES)
