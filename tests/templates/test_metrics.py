"""Every metric that an alarm or the dashboard shows is one that somebody writes: the functions, the receiver's log, or AWS."""

import json
import re
from pathlib import Path

import pytest

from fastscp.local.templates import Resolved
from tests.templates.deployments import deployed, of_type
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


def shown(resolved: Resolved) -> set[tuple[str, str]]:
    """Namespace and name of what the dashboard shows."""
    found = set()
    for _, dashboard in of_type(resolved, "AWS::CloudWatch::Dashboard"):
        for widget in json.loads(dashboard.properties["DashboardBody"])["widgets"]:
            found |= {(metric[0], metric[1]) for metric in widget["properties"]["metrics"]}
    return found


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
        elif namespace != "fastscp":
            assert (namespace, name) in of_the_log(resolved), f"{namespace} {name}"


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
