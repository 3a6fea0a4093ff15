# All commands of brain-mri, with torch for CPUs and NVIDIA GPUs (about 6 GB). In the clone's folder:
#   docker build -f docker/train.Dockerfile -t brain-mri .
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" -v <data>:/data:ro -v "$PWD/outputs:/runs/outputs" \
#     brain-mri train efficientnet --data_dir /data
# Without a GPU leave out --gpus all. Several GPUs: --entrypoint accelerate, and
#     brain-mri launch --multi_gpu --num_processes 8 -m brain_mri.training efficientnet --data_dir /data
FROM python:3.11-slim

# g++ compiles the networks of recipes with torch_compile
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml setup.py README.md LICENSE ./
COPY brain_mri brain_mri
COPY configs configs
# this package, with the bounds of its pyproject.toml
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[lora]" && mkdir -m 777 /runs

ENV HF_HUB_DISABLE_TELEMETRY=1 HOME=/tmp
WORKDIR /runs
USER 1000:1000
ENTRYPOINT ["brain-mri"]
CMD ["--help"]
