#!/usr/bin/env bash
# Deploys, or updates, one stack: repository and bucket, image, artefacts, then the service.
#
#   scripts/deploy.sh STACK REGION [PARAMETERS]     PARAMETERS: a JSON file {"PeerCIDR1": "10.20.0.0/16", ...}; see cfn/params/
#
# Needs the AWS CLI 2 with credentials, Docker with buildx, git, Python, and what make package has made. What it deploys is the commit that is checked out.
set -euo pipefail

stack=${1:?STACK is missing}
region=${2:?REGION is missing}
parameters=${3:-}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

if ! [[ $stack =~ ^[A-Za-z]([A-Za-z0-9]|-[A-Za-z0-9]){0,39}$ ]] || [ ${#stack} -gt 40 ]; then
    echo "deploy: STACK is 1 to 40 letters, digits and single hyphens, and begins with a letter: other names begin with it" >&2
    exit 1
fi
if [ -n "$(git status --porcelain)" ]; then
    echo "deploy: there are changes that are not committed; what runs could not be found again" >&2
    exit 1
fi
revision=$(git rev-parse --short=12 HEAD)
prefix=$(python3 scripts/package.py)
overrides=()
architecture=ARM64
if [ -n "$parameters" ]; then
    pairs=$(python3 -c 'import json, sys; [print(f"{k}={v}") for k, v in json.load(open(sys.argv[1])).items()]' "$parameters")
    mapfile -t overrides <<<"$pairs"
fi
protection=true
for override in "${overrides[@]}"; do
    case $override in
        CPUArchitecture=*) architecture=${override#*=} ;;
        DeletionProtection=*) protection=${override#*=} ;;
    esac
done
case $architecture in
    ARM64) platform=linux/arm64 ;;
    X86_64) platform=linux/amd64 ;;
    *) echo "deploy: CPUArchitecture is $architecture" >&2; exit 1 ;;
esac
# Said each time: a parameter that is not said keeps its value, and the image would be for another processor.
overrides+=("CPUArchitecture=$architecture")

aws() { command aws --region "$region" "$@"; }
status() { aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].StackStatus' --output text 2>/dev/null || echo NONE; }
output() { aws cloudformation describe-stacks --stack-name "$1" --query "Stacks[0].Outputs[?OutputKey=='$2'].OutputValue" --output text; }

aws cloudformation deploy --stack-name "$stack-repository" --template-file cfn/repository.yaml --no-fail-on-empty-changeset \
    --parameter-overrides "RepositoryName=$(tr '[:upper:]' '[:lower:]' <<<"$stack")"
repository=$(output "$stack-repository" RepositoryUri)
repository_arn=$(output "$stack-repository" RepositoryArn)
bucket=$(output "$stack-repository" ArtifactBucketName)

# Tags do not move, so a revision that is there already is the one that was built.
tag="$revision-${platform#linux/}"
digest() { aws ecr describe-images --repository-name "${repository#*/}" --image-ids "imageTag=$tag" --query 'imageDetails[0].imageDigest' --output text; }
if ! digest >/dev/null 2>&1; then
    aws ecr get-login-password | docker login --username AWS --password-stdin "${repository%%/*}"
    docker buildx build --platform "$platform" --provenance=false --pull --push --tag "$repository:$tag" \
        --build-arg "REVISION=$revision" --build-arg "BASE_DIGEST=${BASE_DIGEST:-}" .
fi
image="$repository@$(digest)"

aws s3 sync "build/package/$prefix" "s3://$bucket/$prefix" --only-show-errors
service() {
    aws cloudformation deploy --stack-name "$stack" --template-file cfn/main.yaml \
        --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
        --parameter-overrides "${overrides[@]}" "DeletionProtection=$1" \
        "ImageURI=$image" "RepositoryArn=$repository_arn" "ArtifactBucket=$bucket" "ArtifactPrefix=$prefix" && return
    # The command gives up after an hour, and an update takes up to an hour and some minutes: the stack goes on.
    case $(status) in *_IN_PROGRESS) ;; *) return 1 ;; esac
    while [[ $(status) == *_IN_PROGRESS ]]; do sleep 30; done
    case $(status) in CREATE_COMPLETE | UPDATE_COMPLETE) ;; *) return 1 ;; esac
}
# What is protected from deletion cannot be taken back where the first deployment fails: the load balancer is protected once it stands.
if [ "$(status)" = NONE ]; then service false; fi
service "$protection"
aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].Outputs[].[OutputKey, OutputValue]' --output table
