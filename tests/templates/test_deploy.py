"""What make deploy does, in which order and with what: the script is real, the AWS CLI and Docker only write down what they are asked."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from fastscp.local.templates import resolve
from tests.templates.deployments import CFN, LEAST

ROOT = CFN.parent
REPOSITORY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/imaging"
DIGEST = f"sha256:{'a' * 64}"
# Answers what the script asks for; the image is there once docker has been called.
TOOL = f"""#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
case "$*" in
    *"--stack-name imaging --template-file"*) "$CALLS.deploy" ;;
    *RepositoryUri*) echo {REPOSITORY} ;;
    *RepositoryArn*) echo arn:aws:ecr:eu-west-1:123456789012:repository/imaging ;;
    *ArtifactBucketName*) echo artefacts ;;
    *StackStatus*) cat "$CALLS.status" 2>/dev/null || exit 254 ;;
    *describe-images*) grep -q '^docker buildx' "$CALLS" && echo {DIGEST} ;;
    *get-login-password*) echo secret ;;
    *--password-stdin*) cat >/dev/null ;;
esac
"""


class Checkout(NamedTuple):
    path: Path
    calls: Path

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.path.parent / 'bin'}:{os.environ['PATH']}", "CALLS": str(self.calls), "HOME": str(self.path.parent)}
        script = str(self.path / "scripts" / "deploy.sh")
        return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, check=False)

    def status(self, text: str) -> None:
        """What the stack is before."""
        Path(f"{self.calls}.status").write_text(text)

    def deploying(self, script: str) -> None:
        """What happens when the service's stack is deployed."""
        Path(f"{self.calls}.deploy").write_text("#!/bin/sh\n" + script.format(status=f"{self.calls}.status") + "\n")

    def tool(self, name: str, script: str) -> None:
        """Another program that the script calls."""
        path = self.path.parent / "bin" / name
        path.write_text("#!/bin/sh\n" + script.format(status=f"{self.calls}.status") + "\n")
        path.chmod(0o755)

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines() if self.calls.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    path = tmp_path / "checkout"
    shutil.copytree(CFN, path / "cfn")
    (path / "scripts").mkdir()
    for name in ("deploy.sh", "package.py"):
        shutil.copy(ROOT / "scripts" / name, path / "scripts" / name)
    (path / "build").mkdir()
    (path / "build" / "lambdas.zip").write_bytes(b"functions")
    (path / ".gitignore").write_text("/build/\n")
    git = ["git", "-C", str(path), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *arguments], check=True)
    script = tmp_path / "calls.deploy"
    script.write_text(f"#!/bin/sh\necho CREATE_COMPLETE > {tmp_path}/calls.status\n")
    script.chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name in ("aws", "docker"):
        tool = tmp_path / "bin" / name
        tool.write_text(TOOL)
        tool.chmod(0o755)
    return Checkout(path, tmp_path / "calls")


def test_the_image_and_the_artefacts_are_there_before_the_service(checkout: Checkout) -> None:
    result = checkout.deploy("imaging", "eu-west-1", str(CFN / "params" / "existing-vpc.json"))
    assert result.returncode == 0, result.stderr
    steps = [re.sub(r"--region \S+ ", "", call) for call in checkout.called()]
    order = [
        next(number for number, step in enumerate(steps) if step.startswith(start))
        for start in (
            "aws cloudformation deploy --stack-name imaging-repository",
            "docker login",
            "docker buildx build --platform linux/arm64",
            "aws s3 sync",
            "aws cloudformation deploy --stack-name imaging ",
        )
    ]
    assert order == sorted(order)
    said = steps[order[-1]]
    assert " DeletionProtection=false " in said
    (protecting,) = [step for step in steps[order[-1] + 1 :] if step.startswith("aws cloudformation deploy")]
    assert protecting == said.replace("DeletionProtection=false", "DeletionProtection=true")
    prefix = re.search(r"ArtifactPrefix=(fastscp/[0-9a-f]{16}/)", said)
    assert prefix
    assert f"s3://artefacts/{prefix[1]}" in steps[order[3]]
    for name, value in json.loads((CFN / "params" / "existing-vpc.json").read_text()).items():
        assert f" {name}={value} " in said
    assert f" ImageURI={REPOSITORY}@{DIGEST} " in said
    assert " CPUArchitecture=ARM64 " in said


def test_what_is_deployed_is_what_main_names(checkout: Checkout) -> None:
    assert checkout.deploy("imaging", "eu-west-1").returncode == 0
    (directory,) = (checkout.path / "build" / "package" / "fastscp").iterdir()
    texts = [path.read_text(encoding="utf-8") for path in sorted(CFN.glob("*.yaml"))]
    named = {name for text in texts for name in re.findall(r"\$\{ArtifactPrefix\}([\w.]+)", text)}
    assert {path.name for path in directory.iterdir()} == named | {"main.yaml"}
    for path in directory.iterdir():
        source = {"lambdas.zip": checkout.path / "build" / "lambdas.zip", "import.asl.json": CFN / "statemachine" / "import.asl.json"}
        assert path.read_bytes() == source.get(path.name, CFN / path.name).read_bytes()


def test_another_content_has_another_prefix_and_the_same_content_the_same(checkout: Checkout) -> None:
    script = ["python3", str(checkout.path / "scripts" / "package.py")]
    first, second = (subprocess.run(script, check=True, capture_output=True, text=True).stdout for _ in range(2))
    (checkout.path / "build" / "lambdas.zip").write_bytes(b"other functions")
    third = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    assert first == second != third


def test_an_image_that_is_there_is_not_built_again(checkout: Checkout) -> None:
    assert checkout.deploy("imaging", "eu-west-1").returncode == 0
    before = len([call for call in checkout.called() if call.startswith("docker buildx")])
    assert checkout.deploy("imaging", "eu-west-1").returncode == 0
    assert len([call for call in checkout.called() if call.startswith("docker buildx")]) == before == 1


def service_calls(checkout: Checkout) -> list[str]:
    return [call for call in checkout.called() if "--stack-name imaging --template-file" in call]


def test_an_update_is_one_step_and_keeps_the_protection(checkout: Checkout) -> None:
    checkout.status("UPDATE_COMPLETE")
    assert checkout.deploy("imaging", "eu-west-1").returncode == 0
    (said,) = service_calls(checkout)
    assert " DeletionProtection=true " in said


def test_who_asks_for_no_protection_gets_none(checkout: Checkout, tmp_path: Path) -> None:
    checkout.status("UPDATE_COMPLETE")
    (tmp_path / "given.json").write_text('{"DeletionProtection": "false"}')
    assert checkout.deploy("imaging", "eu-west-1", str(tmp_path / "given.json")).returncode == 0
    (said,) = service_calls(checkout)
    assert "DeletionProtection=true" not in said


def test_a_first_deployment_that_fails_ends_there(checkout: Checkout) -> None:
    checkout.deploying("echo ROLLBACK_COMPLETE > {status}; exit 255")
    result = checkout.deploy("imaging", "eu-west-1")
    assert result.returncode != 0
    assert len(service_calls(checkout)) == 1


@pytest.mark.parametrize(("end", "code"), [("UPDATE_COMPLETE", 0), ("UPDATE_ROLLBACK_COMPLETE", 1)])
def test_an_update_that_takes_longer_than_the_command_waits_for_is_waited_for(checkout: Checkout, end: str, code: int) -> None:
    checkout.status("UPDATE_COMPLETE")
    checkout.deploying("echo UPDATE_IN_PROGRESS > {status}; exit 255")
    checkout.tool("sleep", f"echo {end} > {{status}}")
    assert checkout.deploy("imaging", "eu-west-1").returncode == code
    assert len(service_calls(checkout)) == 1


@pytest.mark.parametrize("name", ["1imaging", "imaging_1", "imaging-", "ima--ging", "a" * 41])
def test_a_name_that_others_cannot_begin_with_is_refused(checkout: Checkout, name: str) -> None:
    result = checkout.deploy(name, "eu-west-1")
    assert result.returncode == 1
    assert "STACK is" in result.stderr
    assert checkout.called() == []


def test_changes_that_are_not_committed_are_not_deployed(checkout: Checkout) -> None:
    (checkout.path / "cfn" / "main.yaml").write_text("changed")
    result = checkout.deploy("imaging", "eu-west-1")
    assert result.returncode == 1
    assert "not committed" in result.stderr
    assert checkout.called() == []


@pytest.mark.parametrize(("given", "words"), [("{", "JSON"), ('{"CPUArchitecture": "RISCV"}', "CPUArchitecture is RISCV")])
def test_parameters_that_cannot_be_are_refused(checkout: Checkout, tmp_path: Path, given: str, words: str) -> None:
    (tmp_path / "given.json").write_text(given)
    result = checkout.deploy("imaging", "eu-west-1", str(tmp_path / "given.json"))
    assert result.returncode == 1
    assert words in result.stderr
    assert checkout.called() == []


@pytest.mark.parametrize("path", sorted((CFN / "params").glob("*.json")), ids=lambda path: path.name)
def test_the_examples_are_taken(path: Path) -> None:
    without_peers = {name: value for name, value in LEAST.items() if name != "PeerCIDR1"}
    resolve(CFN / "main.yaml", without_peers | json.loads(path.read_text()))
