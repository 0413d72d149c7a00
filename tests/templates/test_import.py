"""An import, from what a receiver writes to the results, on what the templates make; and it fails where a template is wrong."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from fastscp.batches.manifest import Entry, Manifest, encode_manifest
from fastscp.batches.marker import Marker, encode_marker
from fastscp.batches.times import utc
from fastscp.local.templates import Resolved
from tests.templates.allowing import allows, needs
from tests.templates.deployments import changed, deployed
from tests.templates.guard_wiring import FUNCTIONS
from tests.templates.running import Called, Deployment, running

BATCH, OPEN_BATCH = "00112233445566aa-019abcdef012", "ffeeddccbbaa9988-019abcdef013"
STUDY, SERIES = "1.2", "1.2.1"
REFUSED = "1.2.1.2"
EVERY_VARIANT = ("defaults", "created-key")


def receive(deployment: Deployment) -> None:
    """What a receiver writes: instances, markers, the manifest of one batch; the other one's worker is lost."""
    opened = utc(deployment.clock.now() - 3600)
    for batch, uids in ((BATCH, ("1.2.1.1", REFUSED)), (OPEN_BATCH, ("1.2.1.3",))):
        entries = tuple(
            Entry(sop_instance_uid=uid, key=deployment.keys.instance(batch, STUDY, SERIES, uid), size=4, crc64nvme="AAAAAAAAAAA=")
            for uid in uids
        )
        marker = Marker(
            batch_id=batch,
            owner="worker",
            opened_at=opened,
            expires_at=opened,
            lease_seconds=120,
            put_deadline_seconds=60,
            study_instance_uid=STUDY,
            study_date="20260101",
            calling_ae_titles=("MODALITY",),
            called_ae_titles=("FASTSCP",),
            association_ids=("association-1",),
        )
        deployment.put(deployment.keys.marker(batch), encode_marker(marker))
        for entry in entries:
            deployment.put(entry.key, b"DICM")
        if batch == BATCH:
            manifest = Manifest(
                batch_id=batch,
                owner="worker",
                closed_by="worker",
                close_reason="quiet",
                opened_at=opened,
                closed_at=opened,
                study_instance_uid=STUDY,
                study_date="20260101",
                series_instance_uids=(SERIES,),
                calling_ae_titles=("MODALITY",),
                called_ae_titles=("FASTSCP",),
                association_ids=("association-1",),
                instance_count=len(entries),
                total_bytes=4 * len(entries),
                instances=entries,
            )
            deployment.put(deployment.keys.manifest(batch), encode_manifest(manifest))


def import_everything(deployment: Deployment) -> None:
    """A batch with an instance that HealthImaging refuses, a file in the inbox, and a batch whose worker is lost. Raises AssertionError."""
    deployment.imaging.outcome = lambda key: "not conformant" if key.endswith(f"{REFUSED}.dcm") else None
    receive(deployment)
    inbox = f"{deployment.keys.inbox}scanner/one.dcm"
    deployment.put(inbox, Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    deployment.deliver()
    deployment.run_executions()
    # Without the sweeper, which would start what no event has started.
    assert sorted(row["state"] for row in deployment.rows("DicomImportBatchTable")) == ["DONE", "DONE"]
    # Past the lease and the deadline of a PUT that may still land.
    deployment.clock.sleep(600)
    deployment.tick()
    deployment.deliver()
    deployment.run_executions()

    rows = {row["batchId"]: row for row in deployment.rows("DicomImportBatchTable")}
    assert len(rows) == 3
    assert {row["state"] for row in rows.values()} == {"DONE"}
    assert (rows[BATCH]["importedCount"], rows[BATCH]["failedCount"]) == ("1", "1")
    assert rows[OPEN_BATCH]["closedBy"] == "sweeper"
    assert sorted(row["source"] for row in rows.values()) == ["inbox", "receiver", "receiver"]
    jobs = deployment.rows("DicomImportJobTable")
    assert {job["jobStatus"] for job in jobs} == {"COMPLETED"}
    assert {job["jobId"] for job in jobs} == {row["jobId"] for row in rows.values()}
    results = deployment.resolved.resources["Storage/ResultsBucket"].ref
    assert len([key for key in deployment.objects(results) if "results/" in key]) == 3
    assert deployment.objects(deployment.bucket, deployment.keys.open) == []
    quarantined = deployment.objects(deployment.bucket, deployment.keys.quarantine)
    assert quarantined == [f"{deployment.keys.quarantine}{BATCH}/{STUDY}/{SERIES}/{REFUSED}.dcm"]


def refused_calls(calls: Iterable[Called], resolved: Resolved) -> list[str]:
    """Calls that the roles of the templates do not allow."""
    return sorted(
        {
            f"{call.by} may not {action} {resource}"
            for call in calls
            for action, resource in needs(call)
            if not allows(resolved, call.by, (action, resource))
        }
    )


@pytest.mark.parametrize("variant", EVERY_VARIANT)
def test_an_import_on_what_the_templates_make(variant: str) -> None:
    with running(deployed(variant)) as deployment:
        import_everything(deployment)
        assert refused_calls(deployment.calls, deployment.resolved) == []
        assert {call.by for call in deployment.calls} == {*(f"Workflow/{name}Role" for name in FUNCTIONS), "Workflow/DataAccessRole"}
        events = json.dumps([call.arguments for call in deployment.calls if call.operation == "StartExecution"])
        assert BATCH in events


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("storage.yaml", "Value: !Sub '${DicomRoot}batches/'", "Value: !Sub '${DicomRoot}batch/'"),
        ("storage.yaml", "Name: suffix, Value: .dcm", "Name: suffix, Value: .DCM"),
        ("storage.yaml", "Queue: !GetAtt ImportQueue.Arn", "Queue: !GetAtt ImportDeadLetterQueue.Arn"),
        ("storage.yaml", "KeySchema: [{ AttributeName: jobId", "KeySchema: [{ AttributeName: batchId"),
        ("workflow.yaml", "JOB_TABLE: !Ref JobTableName", "JOB_TABLE: !Ref BatchTableName"),
        ("workflow.yaml", "RESULTS_BUCKET: !Ref ResultsBucketName", "RESULTS_BUCKET: !Sub '${ResultsBucketName}-2'"),
        ("workflow.yaml", "EventSourceArn: !Ref ImportQueueArn", "EventSourceArn: !GetAtt SweepDeadLetterQueue.Arn"),
        ("workflow.yaml", "Handler: check_status.handler", "Handler: check_statuses.handler"),
        (
            "workflow.yaml",
            "StartImportJobFunctionArn: !GetAtt StartImportJobFunction.Arn",
            "StartImportJobFunctionArn: !GetAtt CheckStatusFunction.Arn",
        ),
        ("workflow.yaml", "StateMachineName: !Sub ${ServiceName}-import", "StateMachineName: !Sub ${ServiceName}-imports"),
        ("workflow.yaml", "        Arn: !GetAtt SweepBatchesFunction.Arn", "        Arn: !GetAtt CheckStatusFunction.Arn"),
        ("receiver.yaml", "s3://${DicomBucketName}/${DicomRoot}", "s3://${DicomBucketName}/other"),
    ],
)
def test_a_wrong_template_imports_nothing(tmp_path: Path, file: str, old: str, new: str) -> None:
    resolved = deployed("created-key", changed(tmp_path, file, old, new))
    # An assertion, a refusal of AWS, or a handler that is not there: all are an import that did not come about.
    with pytest.raises(Exception), running(resolved) as deployment:  # noqa: B017
        import_everything(deployment)


@pytest.fixture(scope="module")
def calls() -> list[Called]:
    """All that an import calls."""
    with running(deployed("created-key")) as deployment:
        import_everything(deployment)
        return deployment.calls


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("${DicomRoot}quarantine/*", "${DicomRoot}quarantined/*"),
        ("${DicomRoot}inbox/*", "${DicomRoot}in/*"),
        ("${ResultsRoot}results/*", "results/*"),
        ("${BatchTableArn}/index/byState", "${BatchTableArn}/index/byStudy"),
        ("Action: iam:PassRole", "Action: iam:GetRole"),
        ("'${ResultsBucketArn}/${ResultsRoot}output/*'", "'${ResultsBucketArn}/${ResultsRoot}out/*'"),
        ("'${DicomBucketArn}/${DicomRoot}instances/*'", "'${DicomBucketArn}/${DicomRoot}inst/*'"),
    ],
)
def test_a_role_for_another_prefix_is_noticed(tmp_path: Path, calls: list[Called], old: str, new: str) -> None:
    assert refused_calls(calls, deployed("created-key", changed(tmp_path, "workflow.yaml", old, new)))


def test_the_receiver_may_write_what_it_writes_and_nothing_else() -> None:
    resolved = deployed("created-key")
    with running(resolved) as deployment:
        bucket, keys = f"arn:aws:s3:::{deployment.bucket}", deployment.keys
    role = "Receiver/TaskRole"
    instance = keys.instance(BATCH, STUDY, SERIES, "1.2.1.1")
    for action, key in [
        *((action, instance) for action in ("PutObject", "AbortMultipartUpload", "GetObject")),
        *((action, keys.marker(BATCH)) for action in ("PutObject", "DeleteObject")),
        ("PutObject", keys.manifest(BATCH)),
        *((action, f"{keys.instances('').removesuffix('instances//')}.check") for action in ("PutObject", "AbortMultipartUpload")),
    ]:
        assert allows(resolved, role, (f"s3:{action}", f"{bucket}/{key}")), f"{action} {key}"
    for action, key in (
        ("DeleteObject", instance),
        ("GetObject", keys.manifest(BATCH)),
        ("PutObject", f"{keys.quarantine}x"),
        ("PutObject", f"{keys.inbox}x"),
    ):
        assert not allows(resolved, role, (f"s3:{action}", f"{bucket}/{key}")), f"{action} {key}"
