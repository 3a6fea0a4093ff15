"""The model card: `README.md` of a model folder, from the JSON files in it and nothing else. No torch.

    python -m brain_mri.reporting.model_card MODEL_FOLDER

The sentences are in `templates/model_card.md`, their values come from here. A figure that was not measured is in no
sentence. Model cards: Mitchell et al. 2019.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import UndefinedError

from brain_mri.errors import DataError, run_command
from brain_mri.labels import is_healthy, no_healthy_class
from brain_mri.metrics.formulas import ECE_BINS
from brain_mri.metrics.interval import show
from brain_mri.model_folder import CARD, ModelRecords, Record, read_records
from brain_mri.reporting.cautions import cautions
from brain_mri.reporting.markdown import render
from brain_mri.reporting.protocols import Protocol, protocols
from brain_mri.utils.files import written_whole

_TASK = "image-classification"
_TAGS = ("transformers", "medical", "mri", "brain-tumor", "not-for-diagnosis")
_HUB_ID = r"[\w-][\w.-]*/[\w.-]+"
_FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_specificity": "Macro specificity",
    "macro_auroc": "Macro AUROC",
    "macro_average_precision": "Macro average precision",
    "matthews": "Matthews correlation",
    "cohen_kappa": "Cohen's kappa",
    "brier": "Brier score (lower is better)",
    "negative_log_likelihood": "Negative log-likelihood (lower is better)",
    "expected_calibration_error": "Expected calibration error (lower is better)",
}
_INDEXED = {  # the figures of the metadata, under the names that the Hub's metrics have
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "macro_f1": "f1",
    "macro_auroc": "roc_auc",
    "matthews": "matthews_correlation",
    "expected_calibration_error": "expected_calibration_error",
}
# Those of the Hub's licence names that weights come under; any other is declared as "other", with its name.
_HUB_LICENSES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "agpl-3.0", "openrail", "creativeml-openrail-m", "apple-amlr", "apple-ascl", "gemma",
}  # fmt: skip


def write_card(folder: str | Path) -> Path:
    """Write `README.md` into a model folder, whole or not at all.

    Returns:
        The path of the card.

    Raises:
        DataError: `config.json` or `run.json` is missing, or a file lacks a value that the card needs.
    """
    path = Path(folder) / CARD
    try:
        card = build_card(read_records(folder))
    except (KeyError, UndefinedError) as error:
        raise DataError(
            f"a JSON file of {folder} lacks {error}, which this version writes: train or evaluate again with it."
        ) from error
    with written_whole(path) as partial:
        card.save(partial)
    return path


def build_card(records: ModelRecords) -> ModelCard:
    """Fill the template; the metadata goes through huggingface_hub's own classes, and back through its parser.

    Raises:
        KeyError: a file lacks a figure that it should have.
        UndefinedError: the same, found by the template.
    """
    measured, metadata = protocols(records), card_metadata(records)
    body = render(
        "model_card.md",
        records,
        metadata=metadata,
        cautions=cautions(records),
        network=_network(records.run),
        first=first_model(records.run),
        first_file=first_file(records.run),
        teachers=teachers(records.run),
        data_name=_data_name(records.run),
        healthy=next(filter(is_healthy, records.run["label_names"]), None),
        no_healthy_class=no_healthy_class(records.run["label_names"]),
        protocols={protocol.key: protocol for protocol in measured},
        figure_rows=figure_rows(measured, records.patient_wise),
        absent_classes={protocol.title: _absent_classes(protocol.scores) for protocol in measured if protocol.scores},
        confusions=largest_confusions(records.results["scores"]) if records.results else [],
        missed=missed_tumors(records.results["scores"]) if records.results else None,
        weakest=weakest_class(records.results["scores"]) if records.results else None,
    )
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}")


def figure_rows(measured: Sequence[Protocol], patient_wise: Record | None) -> list[list[str]]:
    """The table of all protocols as rows of cells: a name, then a cell for each protocol."""
    scores = [protocol.scores for protocol in measured]
    folds = patient_wise or {"n": 0, "metrics": {}}
    rows = [["Images (n)", *(f"{(s or folds)['n']:,}" for s in scores)]]
    for key, name in _FIGURES.items():
        rows.append([name, *(_scores_cell(s, key) if s else _folds_cell(folds, key) for s in scores)])
    for share in next((s["referral"] for s in scores if s), {}):
        cells = (_scores_cell(s["referral"], share) if s else "not measured" for s in scores)
        rows.append([f"Accuracy, least certain {share} referred", *cells])
    return rows


def _scores_cell(scores: Record, key: str) -> str:
    bins = scores.get("ece_bins", ECE_BINS)
    few = f", {bins} bins" if key == "expected_calibration_error" and bins < ECE_BINS else ""
    return show(scores[key]) + few if key in scores else "not defined"


def _folds_cell(folds: Record, key: str) -> str:
    if key not in folds["metrics"]:
        return "not measured"
    metric = folds["metrics"][key]
    if "low" in metric:  # one fold only
        return show({"value": metric["mean"], "low": metric["low"], "high": metric["high"]})
    return f"{metric['mean']:.4f}" + (f" ± {metric['sd']:.4f}" if len(metric["values"]) > 1 else "")


def _absent_classes(scores: Record) -> list[str]:
    return [name for name, images in scores["support"].items() if not images]


def largest_confusions(scores: Record, most: int = 2) -> list[Record]:
    """The at most `most` commonest mistakes: `true`, `predicted`, `count`, and `images` of the true class."""
    names, matrix = scores["label_names"], scores["confusion_matrix"]
    pairs = [(i, j) for i, j in product(range(len(names)), repeat=2) if i != j and matrix[i][j]]
    pairs.sort(key=lambda pair: -matrix[pair[0]][pair[1]])
    return [
        {"true": names[i], "predicted": names[j], "count": matrix[i][j], "images": sum(matrix[i])}
        for i, j in pairs[:most]
    ]


def missed_tumors(scores: Record) -> Record | None:
    """Tumours taken for none and the reverse: `missed` of `tumors`, `false_alarms` of `healthy`; None without both."""
    names, matrix = scores["label_names"], scores["confusion_matrix"]
    column = next((i for i, name in enumerate(names) if is_healthy(name)), None)
    if column is None:
        return None
    ill, healthy = [row for i, row in enumerate(matrix) if i != column], matrix[column]
    counts = {
        "missed": sum(row[column] for row in ill),
        "tumors": sum(map(sum, ill)),
        "false_alarms": sum(healthy) - healthy[column],
        "healthy": sum(healthy),
    }
    return counts if counts["tumors"] and counts["healthy"] else None


def weakest_class(scores: Record) -> str | None:
    """The class with the lowest sensitivity; None if no class has one."""
    found = {
        name: figures["sensitivity"]["value"]
        for name, figures in scores["per_class"].items()
        if "sensitivity" in figures
    }
    return min(found, key=found.__getitem__) if found else None


def card_metadata(records: ModelRecords) -> ModelCardData:
    """The YAML block: licence, library, base model, data set, tags, and every protocol's figures as `model-index`."""
    model, data, config = first_model(records.run), records.run["data"], records.config
    is_timm = config["model_type"] == "timm_wrapper"
    base = model["model"] if model["pretrained"] else None
    license_, license_name = _license(records)
    results = [result for protocol in protocols(records) for result in _eval_results(protocol, records.patient_wise)]
    return ModelCardData(
        model_name=f"brain-mri-{_network(records.run)}" if results else None,
        base_model=base if base and re.fullmatch(_HUB_ID, base) else None,
        datasets=[data["data_dir"]] if data.get("on_hub") else None,
        library_name="timm" if is_timm else "transformers",
        pipeline_tag=_TASK,
        tags=[_TASK, *(["timm"] if is_timm else []), *_TAGS],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        eval_results=results or None,
        license=license_,
        license_name=license_name,
    )


def _license(records: ModelRecords) -> tuple[str | None, str | None]:
    """The licence, for the Hub and by name: that of `run.json`, else that of the pretrained weights."""
    inherited = (
        records.config.get("pretrained_cfg", {}).get("license") if first_model(records.run)["pretrained"] else None
    )
    name = str(records.run["model"].get("license") or inherited or "").lower()
    if not name or name == "unknown":
        return None, None
    return (name, None) if name in _HUB_LICENSES else ("other", name)


def _eval_results(protocol: Protocol, patient_wise: Record | None) -> list[EvalResult]:
    """The Hub distinguishes results by configuration and revision of the data; the protocol is the configuration."""
    if protocol.scores is not None:
        values = {key: protocol.scores[key]["value"] for key in _INDEXED if key in protocol.scores}
        note = ""
    else:
        folds = patient_wise or {"metrics": {}}
        metrics = {key: folds["metrics"][key] for key in _INDEXED if key in folds["metrics"]}
        values = {key: metric["mean"] for key, metric in metrics.items()}
        done = max((len(metric["values"]) for metric in metrics.values()), default=0)
        note = f", mean of {done} of {folds.get('n_folds', done)} folds"
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type="imagefolder",
            dataset_name=f"{protocol.data['name']} ({protocol.title.split(':')[0].lower()})",
            dataset_config=protocol.key,
            dataset_split="test",
            dataset_revision=protocol.data.get("fingerprint"),
            metric_type=_INDEXED[key],
            metric_name=_FIGURES[key].removesuffix(" (lower is better)") + note,
            metric_value=value,
        )
        for key, value in values.items()
    ]


def _network(run: Record) -> str:
    """The architecture's name, from the name of the weights."""
    return _last_part(first_model(run)["model"]).split(".")[0]


def first_model(run: Record) -> Record:
    """The start of the first training stage: `model`, `pretrained`, `model_args`."""
    stages: list[Record] = run.get("stages", [])
    return stages[0] if stages else run["model"]


def teachers(run: Record) -> list[Record]:
    """The teachers of all training stages, see `lineage.origins`, each once, with the `name` to show."""
    found = [stage.get("teacher") for stage in (*run.get("stages", []), run)]
    return list({str(t.get("sha256", t["model"])): t | {"name": _shown(t["model"])} for t in found if t}.values())


def first_file(run: Record) -> str | None:
    """The file that gave the first stage some of its weights (`--weights`); None without one."""
    weights = [run, *run.get("stages", [])[:1]][-1].get("weights")
    return _last_part(weights["file"]) if weights else None


def _shown(model: str) -> str:
    """An id on the Hub as it is, of a folder only its name."""
    return model if re.fullmatch(_HUB_ID, model) else _last_part(model)


def _last_part(path: object) -> str:
    """The last part of a path."""
    return re.split(r"[\\/]", str(path).rstrip("\\/"))[-1]


def _data_name(run: Record) -> str:
    """The name of the data's folder, or its id on the Hub."""
    return _shown(str(run["data"]["data_dir"]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the card of a model folder from the command line."""
    parser = argparse.ArgumentParser(
        prog="brain-mri card",
        description="Write the model card of a folder from its JSON files.",
    )
    parser.add_argument("folder", help="the model folder that train.py left; README.md in it is replaced")
    print(write_card(parser.parse_args(arguments).folder))


if __name__ == "__main__":
    run_command(main)
