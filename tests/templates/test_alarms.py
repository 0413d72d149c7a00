"""What each alarm waits for, and what the dashboard shows: as docs/operations.md says it, held against the templates."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastscp.local.templates import Resolved
from tests.templates.deployments import changed, deployed, of_type
from tests.templates.guard_wiring import metrics_of_alarms
from tests.templates.mutations import M
from tests.templates.test_metrics import lines_of_the_dashboard

QUARTER_S, FIVE_MINUTES_S, MINUTE_S = 900, 300, 60


class Waits(NamedTuple):
    """At which value, seen for how long, an alarm goes off; below it where `below`."""

    metrics: set[str]
    threshold: float
    for_s: int
    statistic: str
    below: bool = False
    silence: bool = False
    """Whether hearing nothing is an alarm as well."""


ALARMS = {
    "StoresFailed": Waits({"StoresFailed"}, 1, FIVE_MINUTES_S, "Sum"),
    "WorkersLost": Waits({"WorkersLost"}, 1, FIVE_MINUTES_S, "Sum"),
    "AssociationsRejected": Waits({"AssociationsRejected"}, 5, FIVE_MINUTES_S, "Sum"),
    "BatchesOpen": Waits({"OldestBatchAge"}, 900, FIVE_MINUTES_S, "Maximum"),
    # In minutes: the parameter is.
    "ImportAge": Waits({"OldestNotImportedAge"}, 60, FIVE_MINUTES_S, "Maximum"),
    "NonPrimary": Waits({"InstancesNonPrimary"}, 1, FIVE_MINUTES_S, "Sum"),
    "InstancesNotImported": Waits({"InstancesFailed", "InstancesMissing"}, 1, FIVE_MINUTES_S, "Sum"),
    "BatchesFailed": Waits({"BatchesFailed"}, 1, FIVE_MINUTES_S, "Sum"),
    "ImportDeadLetter": Waits({"ApproximateNumberOfMessagesVisible"}, 1, FIVE_MINUTES_S, "Maximum"),
    "SweepDeadLetter": Waits({"ApproximateNumberOfMessagesVisible"}, 1, FIVE_MINUTES_S, "Maximum"),
    "ExecutionsFailed": Waits({"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"}, 1, FIVE_MINUTES_S, "Sum"),
    "Throttles": Waits({"Throttles", "ExecutionThrottled"}, 1, QUARTER_S, "Sum"),
    "FunctionErrors": Waits({"Errors"}, 1, QUARTER_S, "Sum"),
    "UnhealthyTargets": Waits({"UnHealthyHostCount"}, 1, FIVE_MINUTES_S, "Maximum"),
    "NoHealthyTargets": Waits({"HealthyHostCount"}, 1, 3 * MINUTE_S, "Maximum", below=True, silence=True),
    "Cpu": Waits({"CPUUtilization"}, 85, QUARTER_S, "Average"),
    "Memory": Waits({"MemoryUtilization"}, 85, QUARTER_S, "Maximum"),
    "SweeperSilent": Waits({"OldestNotImportedAge"}, 1, QUARTER_S, "SampleCount", below=True, silence=True),
}
SHOWN = {
    "AWS/ECS": {"CPUUtilization", "MemoryUtilization"},
    "AWS/NetworkELB": {
        "ActiveFlowCount",
        "NewFlowCount",
        "TCP_Client_Reset_Count",
        "TCP_Target_Reset_Count",
        "TCP_ELB_Reset_Count",
        "HealthyHostCount",
        "UnHealthyHostCount",
    },
    "AWS/Lambda": {"Invocations", "Errors", "Throttles", "Duration"},
    "AWS/States": {"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"},
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "fastscp": {
        "OldestNotImportedAge",
        "BatchesWaiting",
        "InstancesImported",
        "InstancesFailed",
        "InstancesMissing",
        "InstancesNonPrimary",
    },
    "fastscp/fastscp": {"Instances", "InstanceBytes", "AnswerTime", "BudgetUsed", "OpenBatches", "OldestBatchAge", "StoresFailed"},
}


def waits_for(alarm: dict[str, Any]) -> Waits:
    """What an alarm waits for, from its properties. Raises AssertionError for one that cannot go off as it is meant to."""
    periods = int(alarm["EvaluationPeriods"])
    assert alarm.get("DatapointsToAlarm", periods) == periods
    comparison = alarm["ComparisonOperator"]
    assert comparison in {"GreaterThanOrEqualToThreshold", "LessThanThreshold"}
    if "Metrics" in alarm:
        (expression,) = [one for one in alarm["Metrics"] if "Expression" in one]
        read = [one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one]
        ids = [one["Id"] for one in alarm["Metrics"] if "MetricStat" in one]
        # A metric without a value in a period must not hide those that have one.
        wanted = "m1 / 60" if len(ids) == 1 else " + ".join(f"FILL({one}, 0)" for one in ids)
        assert expression["Expression"] == wanted
        assert expression["ReturnData"]
        assert not any(one["ReturnData"] for one in alarm["Metrics"] if "MetricStat" in one)
        names, (statistic,), (period_s,) = {m["Metric"]["MetricName"] for m in read}, {m["Stat"] for m in read}, {m["Period"] for m in read}
    else:
        names, statistic, period_s = {alarm["MetricName"]}, alarm["Statistic"], alarm["Period"]
    below, silence = comparison == "LessThanThreshold", alarm["TreatMissingData"] == "breaching"
    return Waits(names, float(alarm["Threshold"]), int(period_s) * periods, statistic, below, silence)


def wrong_alarms(resolved: Resolved) -> set[str]:
    found = {
        path.removeprefix("Monitoring/").removesuffix("Alarm"): one.properties for path, one in of_type(resolved, "AWS::CloudWatch::Alarm")
    }
    wrong = set(found) ^ set(ALARMS)
    for name in set(found) & set(ALARMS):
        try:
            if waits_for(found[name]) != ALARMS[name]:
                wrong.add(name)
        except AssertionError:
            wrong.add(name)
    return wrong


def test_each_alarm_waits_for_what_the_runbook_says() -> None:
    assert wrong_alarms(deployed("defaults")) == set()


def of_the_stack(resolved: Resolved) -> dict[str, dict[str, set[str]]]:
    """By namespace: the dimensions that are written, and what they may be in this stack."""
    resources = resolved.resources
    queues = {queue.ref.rpartition("/")[2] for _, queue in of_type(resolved, "AWS::SQS::Queue")}
    balancer = resources["Receiver/LoadBalancer"].ref.partition(":loadbalancer/")[2]
    group = resources["Receiver/TargetGroup"].ref.rpartition(":")[2]
    return {
        "AWS/ECS": {
            "ClusterName": {resources["Receiver/Cluster"].ref},
            "ServiceName": {resources["Receiver/Service"].ref.rpartition("/")[2]},
        },
        "AWS/NetworkELB": {"LoadBalancer": {balancer}, "TargetGroup": {group}},
        "AWS/Lambda": {"FunctionName": {function.ref for _, function in of_type(resolved, "AWS::Lambda::Function")}},
        "AWS/States": {"StateMachineArn": {resources["Workflow/ImportStateMachine"].ref}},
        "AWS/SQS": {"QueueName": queues},
        "fastscp": {"service": {"fastscp"}},
        "fastscp/fastscp": {"Service": {"receiver"}},
    }


def watched_elsewhere(resolved: Resolved) -> set[str]:
    """Names of metrics that an alarm or the dashboard looks for where this stack does not write them."""
    elsewhere = set()
    written = of_the_stack(resolved)
    lines = [(namespace, name, dimensions) for namespace, name, dimensions, _ in lines_of_the_dashboard(resolved)]
    # NLB counts flows for the whole load balancer, hosts for the target group; a metric filter has no dimension.
    whole = {"LoadBalancer"}
    for namespace, name, dimensions in [*metrics_of_alarms(resolved), *lines]:
        if name == "WorkersLost":
            continue
        wanted = set(written[namespace]) if "Host" in name or namespace != "AWS/NetworkELB" else whole
        if set(dimensions) != wanted or not all(value in written[namespace][dimension] for dimension, value in dimensions.items()):
            elsewhere.add(name)
    return elsewhere


def test_what_is_watched_is_of_this_stack() -> None:
    assert watched_elsewhere(deployed("defaults")) == set()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("{ Name: ClusterName, Value: !Ref ClusterName }", "{ Name: ClusterName, Value: other }", "CPUUtilization"),
        ("Name: StateMachineArn, Value", "Name: StateMachine, Value", "ExecutionsFailed"),
        ("Dimensions: [{ Name: service, Value: !Ref ServiceName }]", "Dimensions: []", "BatchesFailed"),
        ('"LoadBalancer", "${LoadBalancerFullName}", "TargetGroup"', '"LoadBalancer", "other", "TargetGroup"', "HealthyHostCount"),
    ],
)
def test_a_metric_that_is_looked_for_elsewhere_is_noticed(tmp_path: Path, old: str, new: str, name: str) -> None:
    assert name in watched_elsewhere(deployed("defaults", changed(tmp_path, M, old, new)))


def test_functions_and_queues_of_alarms_are_those_of_the_stack() -> None:
    resolved = deployed("defaults")
    functions = {resource.ref for _, resource in of_type(resolved, "AWS::Lambda::Function")}
    for name in ("Throttles", "FunctionErrors"):
        metrics = [
            m["MetricStat"]["Metric"] for m in resolved.resources[f"Monitoring/{name}Alarm"].properties["Metrics"] if "MetricStat" in m
        ]
        assert {m["Dimensions"][0]["Value"] for m in metrics if m["Namespace"] == "AWS/Lambda"} == functions
    for name, queue in (("ImportDeadLetter", "Storage/ImportDeadLetterQueue"), ("SweepDeadLetter", "Workflow/SweepDeadLetterQueue")):
        (dimension,) = resolved.resources[f"Monitoring/{name}Alarm"].properties["Dimensions"]
        assert dimension["Value"] == resolved.resources[queue].ref.rpartition("/")[2]


def test_the_dashboard_shows_what_is_going_on() -> None:
    shown: dict[str, set[str]] = {}
    for _, dashboard in of_type(deployed("defaults"), "AWS::CloudWatch::Dashboard"):
        for widget in json.loads(dashboard.properties["DashboardBody"])["widgets"]:
            for namespace, name, *_ in widget["properties"]["metrics"]:
                shown.setdefault(namespace, set()).add(name)
    assert {namespace: names - shown.get(namespace, set()) for namespace, names in SHOWN.items()} == {name: set() for name in SHOWN}


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("Threshold: 5\n", "Threshold: 500\n", "AssociationsRejected"),
        ("TreatMissingData: breaching", "TreatMissingData: notBreaching", "SweeperSilent"),
        ("Statistic: SampleCount", "Statistic: Sum", "SweeperSilent"),
        ("ComparisonOperator: LessThanThreshold", "ComparisonOperator: GreaterThanOrEqualToThreshold", "NoHealthyTargets"),
        ("FILL(m1, 0) + FILL(m2, 0)'", "m1 + m2'", "InstancesNotImported"),
        ("m1 / 60", "m1", "ImportAge"),
        ("Threshold: 85", "Threshold: 99", "Memory"),
        ("Period: 60\n", "Period: 3600\n", "UnhealthyTargets"),
        ("  CpuAlarm:", "  ProcessorAlarm:", "Cpu"),
    ],
)
def test_an_alarm_that_waits_for_something_else_is_noticed(tmp_path: Path, old: str, new: str, name: str) -> None:
    assert name in wrong_alarms(deployed("defaults", changed(tmp_path, M, old, new)))
