# The page with the model in release/, at http://127.0.0.1:7860; no torch. In the clone's folder:
#   docker build -f docker/space.Dockerfile -t brain-mri-page .
#   docker run --rm -p 127.0.0.1:7860:7860 brain-mri-page
# Another model: -v <folder>:/model:ro -e MODEL_ID=/model. Variables: space/README.md. A Space of the Hub needs none of this.
FROM python:3.11-slim

WORKDIR /app
COPY space/requirements.txt space/requirements.txt
RUN pip install --no-cache-dir -r space/requirements.txt
COPY brain_mri brain_mri
COPY release release
COPY space space

# inside, every address of the container; which addresses of the machine reach it is said by docker run -p
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860 HF_HUB_DISABLE_TELEMETRY=1 HOME=/tmp
EXPOSE 7860
USER 1000:1000
CMD ["python", "space/app.py"]
