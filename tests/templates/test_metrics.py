"""Every metric that an alarm, the dashboard or the scaling looks at is one that somebody writes: functions, receiver, its log, or AWS."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastscp.batches import Limits
from fastscp.local.templates import Resolved
from fastscp.observe.emf import SERVICE, UNITS
from tests.templates.deployments import VARIANTS, deployed, of_type
from tests.templates.guard_network import environment
from tests.templates.guard_wiring import metrics_of_alarms
from tests.templates.running import running
from tests.templates.test_import import import_everything

ROOT = Path(__file__).parents[2]
LAMBDAS = ROOT / "lambdas"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
OF_AWS = {
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    "AWS/States": {
        "ExecutionsStarted",
        "ExecutionsSucceeded",
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "ExecutionsAborted",
        "ExecutionThrottled",
    },
    "AWS/Lambda": {"Invocations", "Errors", "Throttles", "Duration"},
    "AWS/ECS": {"CPUUtilization", "MemoryUtilization"},
    "AWS/NetworkELB": {
        "HealthyHostCount",
        "UnHealthyHostCount",
        "ActiveFlowCount",
        "NewFlowCount",
        "TCP_Client_Reset_Count",
        "TCP_Target_Reset_Count",
        "TCP_ELB_Reset_Count",
    },
}


@pytest.fixture(scope="module")
def resolved() -> Resolved:
    return deployed("defaults")


def lines_of_the_dashboard(resolved: Resolved) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """Namespace, name, dimensions and statistic of every line that the dashboard draws."""
    for _, dashboard in of_type(resolved, "AWS::CloudWatch::Dashboard"):
        for widget in json.loads(dashboard.properties["DashboardBody"])["widgets"]:
            for namespace, name, *more in widget["properties"]["metrics"]:
                drawn = more.pop() if more and isinstance(more[-1], dict) else {}
                yield namespace, name, dict(zip(more[::2], more[1::2], strict=True)), drawn.get("stat", widget["properties"]["stat"])


def shown(resolved: Resolved) -> set[tuple[str, str]]:
    """Namespace and name of what the dashboard shows."""
    return {(namespace, name) for namespace, name, _, _ in lines_of_the_dashboard(resolved)}


def of_the_scaling(resolved: Resolved) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of what the number of tasks follows, AWS's own apart."""
    for _, policy in of_type(resolved, "AWS::ApplicationAutoScaling::ScalingPolicy"):
        own = policy.properties["TargetTrackingScalingPolicyConfiguration"].get("CustomizedMetricSpecification")
        if own is not None:
            yield own["Namespace"], own["MetricName"], {one["Name"]: one["Value"] for one in own["Dimensions"]}


def of_the_log(resolved: Resolved) -> dict[tuple[str, str], str]:
    """Filter pattern by namespace and name, of the metrics that are made of the receiver's log."""
    return {
        (one["MetricNamespace"], one["MetricName"]): found.properties["FilterPattern"]
        for _, found in of_type(resolved, "AWS::Logs::MetricFilter")
        for one in found.properties["MetricTransformations"]
    }


def of_the_functions(output: str) -> set[tuple[str, str]]:
    """Names and services of the metrics in what functions printed, as CloudWatch takes them out."""
    found = set()
    for line in output.splitlines():
        if '"_aws"' in line:
            record = json.loads(line)
            for directive in record["_aws"]["CloudWatchMetrics"]:
                assert directive["Namespace"] == "fastscp"
                assert directive["Dimensions"] == [["service"]]
                found |= {(metric["Name"], record["service"]) for metric in directive["Metrics"]}
    return found


def test_the_functions_write_what_is_watched(resolved: Resolved, capsys: pytest.CaptureFixture[str]) -> None:
    with running(resolved) as deployment:
        import_everything(deployment)
    written = of_the_functions(capsys.readouterr().out)
    watched = {(name, dimensions["service"]) for namespace, name, dimensions in metrics_of_alarms(resolved) if namespace == "fastscp"}
    watched |= {(name, "fastscp") for namespace, name in shown(resolved) if namespace == "fastscp"}
    # A batch that fails as a whole is not part of that import.
    failed = {("BatchesFailed", "fastscp")}
    assert watched - written == failed
    assert 'add_metric("BatchesFailed"' in (LAMBDAS / "trigger_import" / "failure.py").read_text(encoding="utf-8")


def test_what_aws_writes_is_called_as_aws_calls_it(resolved: Resolved) -> None:
    watched = {(namespace, name) for namespace, name, _ in metrics_of_alarms(resolved)} | shown(resolved)
    for namespace, name in watched:
        if namespace.startswith("AWS/"):
            assert name in OF_AWS[namespace], f"{namespace} {name}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_receiver_writes_what_is_watched(variant: str) -> None:
    resolved = deployed(variant)
    written = environment(resolved)["FASTSCP_EMF_NAMESPACE"]
    drawn = [line[:3] for line in lines_of_the_dashboard(resolved)]
    watched = [*metrics_of_alarms(resolved), *drawn, *of_the_scaling(resolved)]
    own = [line for line in watched if line[0] != "fastscp" and not line[0].startswith("AWS/")]
    for namespace, name, dimensions in own:
        if name in UNITS:
            assert (namespace, dimensions) == (written, {"Service": SERVICE}), name
        else:
            assert (namespace, name) in of_the_log(resolved), f"{namespace} {name}"
            assert not dimensions
    assert {"BudgetUsed", "AnswerTime", "OldestBatchAge", "WorkersLost", "StoresFailed"} <= {name for _, name, _ in own}


def test_no_metric_is_made_twice(resolved: Resolved) -> None:
    assert not {name for _, name in of_the_log(resolved)} & set(UNITS)


def test_the_dashboard_has_the_percentiles_of_the_acknowledgement(resolved: Resolved) -> None:
    assert {stat for _, name, _, stat in lines_of_the_dashboard(resolved) if name == "AnswerTime"} == {"p50", "p99"}


def test_a_batch_may_be_as_old_as_batches_get(resolved: Resolved) -> None:
    """Before somebody is woken, it has closed by its age, or its lease has ended and the sweeper has it."""
    alarm = resolved.resources["Monitoring/BatchesOpenAlarm"].properties
    assert alarm["MetricName"] == "OldestBatchAge"
    assert float(alarm["Threshold"]) > Limits().age_s + Limits().lease_s


def test_filters_look_for_what_the_receiver_logs(resolved: Resolved) -> None:
    """Events, reasons and facts in the patterns are in the tables of docs/operations.md, and the records are emitted by the code."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src" / "fastscp").rglob("*.py")))
    for pattern in of_the_log(resolved).values():
        for event in re.findall(r'\$\.event = "(\w+)"', pattern):
            assert f"| `{event}` |" in OPERATIONS
            assert f'"{event}"' in sources
        for reason in re.findall(r'\$\.reason = "(\w+)"', pattern):
            assert f"`{reason}`" in OPERATIONS
            assert f'"{reason}"' in sources


def test_every_alarm_is_in_the_runbook(resolved: Resolved) -> None:
    alarms = {path.removeprefix("Monitoring/") for path, _ in of_type(resolved, "AWS::CloudWatch::Alarm")}
    assert set(re.findall(r"^\| `(\w+Alarm)` \|", OPERATIONS, re.MULTILINE)) == alarms
