from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from support.card_records import (
    calibration,
    evidence_figures,
    full_results,
    patient_wise,
    run_record,
    save,
    some_answers,
    some_audit,
    some_results,
    timm_config,
)

from brain_mri.errors import DataError
from brain_mri.labels import LABELS
from brain_mri.metrics.safety import safety
from brain_mri.reporting.model_card import largest_confusions, missed_tumors, write_card

SECTIONS = (
    "False all-clears", "At a glance", "How to use it", "Labels", "Intended use", "Risks and limits", "Known failures",
    "Data", "Leakage audit", "Results", "The shortcut control", "Evidence maps", "What is no brain MRI", "Calibration",
    "Prediction sets and referral", "Training", "Methods and citation",
)  # fmt: skip


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model folder of which nothing was measured."""
    return save(tmp_path / "model", config=timm_config(), run=run_record())


@pytest.fixture
def full(bare: Path) -> Path:
    """A model folder of which everything was measured; the external images show three of the four classes."""
    return save(
        bare,
        audit=some_audit(),
        calibration=calibration(),
        results=full_results(),
        patient_wise=patient_wise(),
        external_elsewhere=some_results(3, n=60, classes=3),
    )


def table_row(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def section(text: str, title: str) -> str:
    return re.split(r"^#{2,3} ", text.split(f"## {title}\n", 1)[1], flags=re.MULTILINE)[0]


def shown(figure: dict[str, float]) -> str:
    return f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"


def test_the_whole_card_says_what_the_files_say(full: Path) -> None:
    text = write_card(full).read_text(encoding="utf-8")
    results, external = (
        json.loads((full / "evaluation" / f).read_text()) for f in ("results.json", "external_elsewhere.json")
    )
    scores, clean = results["scores"], results["leak_free"]["scores"]

    assert tuple(re.findall(r"^## (.+)$", text, flags=re.MULTILINE)) == SECTIONS
    assert text.index("NOT FOR DIAGNOSIS") < text.index("## At a glance")
    assert "not a medical device" in text

    assert table_row(text, "Figure") == ["Test split", "Leak-free", "Patient-wise", "External: data3"]
    assert table_row(text, "Images (n)") == ["120", "79", "1,226", "60"]
    for key, name in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1")):
        mean = {"accuracy": "0.9137 ± 0.0213", "macro_f1": "0.9011 ± 0.0101"}[key]
        assert table_row(text, name) == [shown(scores[key]), shown(clean[key]), mean, shown(external["scores"][key])]
    assert table_row(text, "Cohen's kappa")[2] == "not measured"
    assert table_row(text, "Accuracy, least certain 10% referred")[0] == shown(scores["referral"]["10%"])
    assert "External: data3 has no image of `pituitary`" in text
    assert '60 independent units in "Test split", 40 independent units in "Leak-free"' in " ".join(text.split())

    for label in LABELS:
        row = table_row(text, f"`{label}`")
        found = scores["per_class"][label]["sensitivity"]
        per_class = section(text, "Per class, on the test split")
        assert f"| `{label}` | {scores['support'][label]} | {found['value']:.3f} ({found['low']:.3f}" in per_class
        assert row, label

    glance = section(text, "At a glance")
    for figure in (scores["accuracy"], clean["accuracy"], external["scores"]["accuracy"]):
        assert f"{figure['value']:.2%} (95% interval {figure['low']:.2%} to {figure['high']:.2%})" in glance
    assert "91.37% right on average** over 2 of 5 folds" in glance

    control = results["shortcut"]
    assert table_row(text, "Trivial features, no network")[0] == f"{control['accuracy']:.4f}"
    assert table_row(text, "This model")[0] == f"{scores['accuracy']['value']:.4f}"
    assert table_row(text, "Validation (fitted here)") == ["0.4321", "0.3987", "0.0512", "0.0123"]
    after = f"{scores['negative_log_likelihood']['value']:.4f}", f"{scores['expected_calibration_error']['value']:.4f}"
    assert table_row(text, "Test") == ["0.7123", after[0], "0.0823", after[1]]

    referral = section(text, "Prediction sets and referral")
    for words in ("94.12%", "2.2% of the sets are empty", "96.34%", "1.44 classes", "15.3%", "98.76%"):
        assert words in referral
    assert "brain-scans" in text and "private" not in text and "somewhere" not in text


def _safety(seed: int) -> dict[str, Any]:
    probabilities, labels = some_answers(seed, 120)
    accepted = np.arange(120) % 10 > 0
    answered = accepted & (probabilities.max(axis=1) > 0.4)
    return safety(probabilities, labels, LABELS, accepted, answered, [f"p{i // 2}" for i in range(120)])


def test_false_all_clears_stand_before_every_accuracy_other_sources_first(full: Path) -> None:
    at_home, elsewhere = _safety(1), _safety(3)
    results = full_results() | {"safety": at_home}
    text = write_card(
        save(full, results=results, external_elsewhere=some_results(3) | {"safety": elsewhere})
    ).read_text()
    told = section(text, "False all-clears")
    assert text.index("## False all-clears") < text.index("## At a glance")
    assert table_row(told, "Source")[:3] == [
        "Tumour slices answered `no_tumor`",
        "Answered with a tumour",
        "Not answered",
    ]
    rows = {"Another source, data3": elsewhere, "Its own source, the test split": at_home}
    for name, found in rows.items():
        clear, row = found["false_all_clear"], table_row(told, name)
        assert row[0] == (
            f"**{clear['count']} of {clear['n']}: {clear['value']:.1%}** ({clear['low']:.1%} to {clear['high']:.1%})"
        )
        assert row[2] == str(found["tumors"] - found["tumors_answered"]["count"])
    assert [line.split(" |")[0][2:] for line in told.splitlines() if line.startswith("| ")][1:] == [*rows]
    auroc = some_results(3)["scores"]["per_class"]["no_tumor"]["auroc"]
    assert table_row(told, "Another source, data3")[-2].startswith(f"{auroc['value']:.2f}")


def test_false_all_clears_that_were_not_measured_are_missed_aloud(full: Path) -> None:
    for text in (
        write_card(full).read_text(),
        write_card(save(full, results=full_results() | {"safety": _safety(1)})).read_text(),
    ):
        assert "**OTHER SOURCES: NOT MEASURED.**" in section(text, "False all-clears")
    assert "Its own source, the test split" in section(text, "False all-clears")
    (full / "evaluation" / "results.json").unlink()
    assert "**Its own source: not measured.**" in section(write_card(full).read_text(), "False all-clears")


def test_a_set_without_a_healthy_class_can_give_no_all_clear(bare: Path) -> None:
    for name, expected in (("pituitary adenoma", "no class for a slice without a tumour"), ("rien", "rien, ")):
        record = json.loads(json.dumps(run_record()).replace("no_tumor", name))
        told = section(write_card(save(bare, run=record)).read_text(), "False all-clears")
        assert expected in told and "NOT MEASURED" not in told


def test_the_card_says_what_changes_without_the_reviewed_images(full: Path) -> None:
    counts = {"n": 29, "refused": 3, "unsure": 2, "answered": dict.fromkeys(LABELS, 0) | {"no_tumor": 24}}
    others = some_results(5, n=90)["scores"]
    review = {"reviewed": {"ct": counts}, "without_review": {"removed": 30, "scores": others, "safety": _safety(5)}}
    run = run_record() | {"left_out": {"ct": 44, "lesion": 46}}
    text = write_card(save(full, run=run, results=full_results() | review)).read_text()
    assert "Without reviewed images" in table_row(text, "Figure")
    assert shown(others["accuracy"]) in table_row(text, "Accuracy")
    assert f"{others['accuracy']['value']:.2%}" in section(text, "At a glance")
    assert "44 `ct`, 46 `lesion` of them were left out of train" in " ".join(section(text, "Data").split())
    failures = section(text, "Known failures")
    assert "Of 29 test images that a review lists as `ct`, 24 were answered `no_tumor`, 3 refused, 2 not" in failures
    assert "without the images that a review lists" in section(text, "False all-clears")


def test_the_audit_is_told_in_words(full: Path) -> None:
    told = section(write_card(full).read_text(encoding="utf-8"), "Leakage audit")
    assert "2 of 4 test images (50.0%) have a twin in training or validation" in told
    assert "1 of them are byte for byte the same file" in told
    assert "of 3 test images whose patient is known, 2 (66.7%) show a patient who is in training" in told
    assert "1 pair of twins bear different labels" in told
    assert table_row(told, "train and test") == ["1", "2", "2 of train, 2 of test"]


def test_no_file_of_the_data_is_named(full: Path) -> None:
    assert ".jpg" not in write_card(full).read_text(encoding="utf-8")


def _visible(text: str) -> str:
    return re.sub(r"<details>.*?</details>", "", text.split("---\n", 2)[2], flags=re.DOTALL)


def test_a_visitor_sees_what_comes_first_and_unfolds_the_rest() -> None:
    text = (Path(__file__).parents[2] / "release" / "README.md").read_text(encoding="utf-8")
    first = _visible(text)
    assert text.count("<details>") == text.count("<summary>") == text.count("</details>")
    assert len(first.split()) < 2361, "half of the card before it was folded"
    for title in ("False all-clears", "How to use it", "Risks and limits", "Known failures"):
        assert f"## {title}\n" in first
    for title in ("Leakage audit", "Results", "Training", "Methods and citation"):
        assert f"## {title}\n" not in first
    assert re.search(r"<details>\n<summary>[^\n]+</summary>\n\n", text), "Markdown in it needs the empty line"


@pytest.mark.parametrize("chosen_by", ["validation", "another source"])
def test_the_code_on_the_card_runs_and_never_rounds_towards_an_all_clear(chosen_by: str, full: Path) -> None:
    record = calibration()
    own, others = (0.99963, 0.9) if chosen_by == "validation" else (0.9, 0.99963)
    record["referral"] |= {"healthy_accuracy": 0.99, "healthy_threshold": own}
    record["all_clear"] = {"threshold": others, "rate": 0.01, "part": None, "sources": []}
    code = section(write_card(save(full, calibration=record)).read_text(encoding="utf-8"), "How to use it")
    decide = code.split("\n\n")[2].split("```")[0]

    def decided(label: str, score: float) -> dict[str, Any]:
        known: dict[str, Any] = {"answers": [{"label": label, "score": score}, {"label": "b", "score": 0.12345}]}
        exec(decide, known)
        return known

    assert "0.8766" in decide and "0.9997" in decide
    assert decided("no_tumor", 0.99965)["refer_to_a_human"] and not decided("no_tumor", 0.9998)["refer_to_a_human"]
    assert not decided("glioma", 0.8767)["refer_to_a_human"]
    assert decided("glioma", 0.9)["prediction_set"] == ["glioma", "b"]


def test_a_class_name_breaks_neither_table_nor_code(bare: Path) -> None:
    odd = 'a|b`c<i>*"d"'
    renamed = json.loads(json.dumps(run_record()).replace('"glioma"', json.dumps(odd)))
    healthy = json.loads(json.dumps(renamed).replace("no_tumor", "no"))
    record = calibration() | {"all_clear": {"threshold": 0.99, "rate": 0.01, "part": None, "sources": []}}
    text = write_card(save(bare, run=healthy, calibration=record)).read_text(encoding="utf-8")
    table = [line for line in section(text, "Labels").splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {4} and len(table) == 6
    assert "a&#124;b&#96;c&#60;i&#62;" in text and odd not in text


def test_the_data_set_of_the_hub_is_named_in_the_metadata(bare: Path) -> None:
    assert ModelCard.load(write_card(bare)).data.datasets is None
    run = run_record()
    run["data"] |= {"data_dir": "someone/brains", "on_hub": True}
    assert ModelCard.load(write_card(save(bare, run=run))).data.datasets == ["someone/brains"]


def test_every_accuracy_on_the_card_is_one_of_the_files(full: Path) -> None:
    text = write_card(full).read_text(encoding="utf-8")
    measured = set(re.findall(r"0\.\d{4}", "".join(f"{x:.4f} " for x in _numbers(full))))
    body = text.split("\n---\n", 1)[1]
    printed = set(
        re.findall(r"(?<![\d.])0\.\d{4}(?!\d)", section(body, "Results") + section(body, "The shortcut control"))
    )
    assert len(printed) > 50
    assert printed <= measured


def _numbers(folder: Path) -> list[float]:
    def walk(node: Any) -> list[float]:
        if isinstance(node, dict | list):
            return [x for part in (node.values() if isinstance(node, dict) else node) for x in walk(part)]
        return [node] if isinstance(node, float) else []

    return [x for path in folder.glob("**/*.json") for x in walk(json.loads(path.read_text()))]


def test_nothing_measured_leaves_no_figure_of_accuracy(bare: Path) -> None:
    text = write_card(bare).read_text(encoding="utf-8")
    assert not re.search(r"\d\.\d{4}|\d%(?! of the steps)", text.replace("0.9950", "").split("## Training")[0])
    for forbidden in ("0.0000", "nan", "None", "81.81", "0.8181", "0.8282"):
        assert forbidden not in text
    assert ModelCard.load(bare / "README.md").data.eval_results is None
    for title in ("Leakage audit", "Results", "The shortcut control", "Known failures"):
        assert section(text, title).strip().startswith("Not measured.")
    assert "**Not evaluated.**" in text
    assert "Patient-wise (tested only on patients never trained on): not measured" in text
    assert "score has not been calibrated" in text.replace("`", "")
    assert "NOT FOR DIAGNOSIS" in text and "## Risks and limits" in text


def test_a_file_that_is_not_there_takes_only_its_own_figures_away(full: Path) -> None:
    (full / "evaluation" / "patient_wise.json").unlink()
    (full / "calibration.json").unlink()
    results = full_results()
    for name in ("leak_free", "before_calibration", "prediction_sets", "referral", "shortcut"):
        results.pop(name)
    text = write_card(save(full, results=results)).read_text(encoding="utf-8")
    assert table_row(text, "Figure") == ["Test split", "External: data3"]
    assert "- **Patient-wise**: not measured." in text
    assert "- **Leak-free** (test images without a twin in training): not measured." in text
    assert section(text, "The shortcut control").strip().startswith("Not measured.")
    assert "prediction_set =" not in text and "## Prediction sets" not in text


def test_the_parser_of_the_hub_gives_the_figures_back(full: Path) -> None:
    data = ModelCard.load(write_card(full)).data
    results = json.loads((full / "evaluation" / "results.json").read_text())
    found = {(r.dataset_config, r.metric_type): r.metric_value for r in data.eval_results}
    assert found["test", "accuracy"] == results["scores"]["accuracy"]["value"]
    assert found["test", "roc_auc"] == results["scores"]["macro_auroc"]["value"]
    assert found["leak-free", "accuracy"] == results["leak_free"]["scores"]["accuracy"]["value"]
    assert found["patient-wise", "f1"] == 0.9011
    assert ("patient-wise", "roc_auc") not in found
    assert {config for config, _ in found} == {"test", "leak-free", "patient-wise", "external-elsewhere"}
    names = {r.dataset_config: r.dataset_name for r in data.eval_results}
    assert names["external-elsewhere"] == "data3 (external)"
    assert data.pipeline_tag == "image-classification"
    assert data.library_name == "timm" and {"timm", "transformers", "not-for-diagnosis"} <= set(data.tags)
    assert data.base_model == "timm/tf_efficientnet_lite0.in1k"
    assert data.license == "apache-2.0"


def test_a_native_model_from_scratch_claims_no_base_and_no_licence(bare: Path) -> None:
    save(bare, config={"model_type": "vit"}, run=run_record(model="google/vit-base-patch16-224", pretrained=False))
    data = ModelCard.load(write_card(bare)).data
    assert (data.library_name, data.base_model, data.license) == ("transformers", None, None)
    assert "timm" not in data.tags


def test_weights_from_a_local_folder_are_no_base_model_on_the_hub(bare: Path) -> None:
    save(bare, run=run_record(model="./outputs/first"))
    assert ModelCard.load(write_card(bare)).data.base_model is None


def test_a_licence_that_the_hub_does_not_list_is_named_as_another(bare: Path) -> None:
    save(bare, config={"model_type": "timm_wrapper", "pretrained_cfg": {"license": "dinov3-license"}})
    data = ModelCard.load(write_card(bare)).data
    assert (data.license, data.license_name) == ("other", "dinov3-license")
    assert "Licence of the weights: dinov3-license" in (bare / "README.md").read_text()


def test_the_licence_of_the_data_is_said_or_asked_for(bare: Path) -> None:
    assert "Licence of the data: not recorded." in write_card(bare).read_text()
    run = run_record()
    run["data"]["data_license"] = "CC BY 4.0 (J. Cheng)"
    assert "Licence of the data: CC BY 4.0 (J. Cheng)." in write_card(save(bare, run=run)).read_text()


def test_pictures_are_linked_only_where_they_are_and_never_those_that_show_the_data(full: Path) -> None:
    for name in ("training_curves.png", "evaluation/roc.png", "evaluation/worst_mistakes.png", "worst_pairs.png"):
        (full / name).touch()
    text = write_card(full).read_text(encoding="utf-8")
    assert re.findall(r"!\[.*\]\((.+)\)", text) == ["evaluation/roc.png", "training_curves.png"]


def test_where_no_confidence_is_enough_every_image_goes_to_a_human(full: Path) -> None:
    record, results = calibration(), full_results()
    record["referral"]["threshold"] = 2.0
    results["referral"] = {"threshold": 2.0, "referred": 1.0}
    text = write_card(save(full, calibration=record, results=results)).read_text(encoding="utf-8")
    assert "By this rule every\nimage goes to a human" in text
    assert "refer_to_a_human" not in text


def test_author_folds_that_divide_patients_are_said_to(full: Path) -> None:
    save(full, patient_wise=patient_wise() | {"folds_by": "author", "divided_groups": 15})
    text = write_card(full).read_text(encoding="utf-8")
    assert table_row(text, "Figure")[2] == "Author's folds"
    assert "Patient-wise (tested only on patients never trained on): not measured" in text
    assert (
        "15 groups of what may be one patient lie in more than one of them, so it is not strictly patient-wise" in text
    )


def test_a_single_fold_has_no_spread(full: Path) -> None:
    record = patient_wise() | {"finished": [1], "metrics": {"accuracy": {"mean": 0.8924, "values": [0.8924]}}}
    assert table_row(write_card(save(full, patient_wise=record)).read_text(), "Accuracy")[2] == "0.8924"


def test_folds_of_which_none_is_finished_count_as_not_measured(bare: Path) -> None:
    save(bare, patient_wise={"folds_by": "grouped", "n_folds": 5, "finished": [], "metrics": {}})
    assert "Patient-wise (tested only on patients never trained on): not measured" in write_card(bare).read_text()


def test_the_largest_confusions_are_the_most_frequent_mistakes() -> None:
    scores = {"label_names": ["a", "b", "c"], "confusion_matrix": [[9, 1, 0], [5, 20, 3], [0, 0, 7]]}
    assert largest_confusions(scores) == [
        {"true": "b", "predicted": "a", "count": 5, "images": 28},
        {"true": "b", "predicted": "c", "count": 3, "images": 28},
    ]
    assert largest_confusions({"label_names": ["a", "b"], "confusion_matrix": [[4, 0], [0, 4]]}) == []


def test_missed_tumours_and_false_alarms_are_counted_apart() -> None:
    scores = {
        "label_names": ["glioma", "no_tumor", "pituitary"],
        "confusion_matrix": [[9, 2, 1], [3, 20, 4], [0, 5, 6]],
    }
    assert missed_tumors(scores) == {"missed": 7, "tumors": 23, "false_alarms": 7, "healthy": 27}
    assert missed_tumors({"label_names": ["no", "yes"], "confusion_matrix": [[1, 0], [0, 1]]}) == {
        "missed": 0, "tumors": 1, "false_alarms": 0, "healthy": 1
    }  # fmt: skip
    assert missed_tumors({"label_names": ["grade 2", "grade 3"], "confusion_matrix": [[1, 0], [0, 1]]}) is None
    nobody_healthy = {"label_names": ["glioma", "no_tumor"], "confusion_matrix": [[5, 1], [0, 0]]}
    assert missed_tumors(nobody_healthy) is None


def test_of_a_run_that_may_have_been_resumed_the_time_says_what_it_leaves_out(bare: Path) -> None:
    assert table_row(write_card(bare).read_text(), "Time")[0].startswith("75 minutes, finished")
    run = run_record()
    run["training"]["resume_from_checkpoint"] = "last"
    assert table_row(write_card(save(bare, run=run)).read_text(), "Time")[0].startswith("75 minutes (of a run that may")


def test_known_failures_are_named(full: Path) -> None:
    told = section(write_card(full).read_text(encoding="utf-8"), "Known failures")
    scores = json.loads((full / "evaluation" / "results.json").read_text())["scores"]
    matrix = np.array(scores["confusion_matrix"])
    off = matrix * (1 - np.eye(4, dtype=int))
    i, j = np.unravel_index(off.argmax(), off.shape)
    assert f"{off.max()} of {matrix[i].sum()} `{LABELS[i]}` images" in told and f"taken for `{LABELS[j]}`" in told
    weakest = LABELS[(np.diag(matrix) / matrix.sum(axis=1)).argmin()]
    assert f"The weakest class is `{weakest}`" in told


def test_a_second_card_replaces_the_first_and_leaves_nothing_beside_it(full: Path) -> None:
    before = {path.name for path in full.iterdir()}
    first = write_card(full).read_bytes()
    assert write_card(full).read_bytes() == first
    assert {path.name for path in full.iterdir()} == before | {"README.md"}


@pytest.mark.parametrize("name", ["run.json", "config.json"])
def test_a_folder_without_its_record_is_one_clear_sentence(bare: Path, name: str) -> None:
    (bare / name).unlink()
    with pytest.raises(
        DataError, match=rf"{name} is missing: give the folder that a finished run of train\.py left\.$"
    ):
        write_card(bare)
    assert not (bare / "README.md").exists()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_broken_file_is_named(bare: Path, content: str) -> None:
    (bare / "audit.json").write_text(content)
    with pytest.raises(DataError, match=r"audit\.json .* write it again"):
        write_card(bare)


@pytest.mark.parametrize(("name", "key"), [("results", "data"), ("results", "images"), ("calibration", "temperature")])
def test_a_file_of_another_version_is_an_error_and_not_a_gap(full: Path, name: str, key: str) -> None:
    record = {"results": full_results, "calibration": calibration}[name]()
    del record[key]
    with pytest.raises(DataError, match=key):
        write_card(save(full, **{name: record}))
    assert not (full / "README.md").exists()


def test_the_command_writes_the_card_and_prints_its_path_without_torch(bare: Path) -> None:
    block = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
    command = (
        "from brain_mri.reporting.model_card import main; from brain_mri.errors import run_command; run_command(main)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", block + command, str(bare)], capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip() == str(bare / "README.md"), answer.stderr
    (bare / "run.json").unlink()
    answer = subprocess.run(
        [sys.executable, "-m", "brain_mri.reporting.model_card", str(bare)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and answer.stderr.startswith("error: ")


def test_a_last_stage_on_the_validation_images_says_that_it_saw_them(bare: Path) -> None:
    assert "validation chooses among checkpoints" in section(write_card(bare).read_text(), "Data")
    record = json.loads((bare / "run.json").read_text())
    record["data"]["train_on_validation"] = True
    save(bare, run=record)
    data = section(write_card(bare).read_text(), "Data")
    assert "validation images are among those of train" in data and "validation chooses" not in data


def test_a_model_of_several_stages_names_them_all_and_says_what_the_earlier_ones_fitted(full: Path) -> None:
    run, results = json.loads((full / "run.json").read_text()), full_results()
    first = {
        "model": "timm/some_net.in1k", "pretrained": True, "model_args": '{"output_stride": 16}', "image_size": 224,
        "progressive_size": 160, "progressive_share": 0.6, "epochs": 6.0, "steps": 852, "images": 4569,
        "boxed_images": 2569, "learning_rate": 0.001, "guidance": 0.5, "label_smoothing": 0.05, "seconds": 3900.0,
        "finished": "2026-11-20T02:59:04Z",
    }  # fmt: skip
    run["model"]["model"], run["data"]["train_on_validation"], run["stages"] = "/private/place/before", True, [first]
    del results["before_calibration"]
    earlier = {"earlier_stage": True}
    evidence = evidence_figures(661, 0.92) | earlier
    save(full, run=run, results=results, calibration=calibration() | earlier, evidence=evidence)
    text = write_card(full).read_text()
    assert "private" not in text
    assert table_row(text, "Network") == ["`timm/some_net.in1k`, fine-tuned from its published weights"]
    assert table_row(text, "Stage 1 of 2")[0].startswith(
        "6 epochs on 4,569 images, 852 steps; learning rate 0.001; 160 "
    )
    assert table_row(text, "Time")[0].startswith("2 h 20 min in all stages; this one 75 minutes")
    assert ModelCard(text).data.base_model == "timm/some_net.in1k"
    assert "of the stage before" in section(text, "Evidence maps")
    assert "Fitted in the stage before" in section(text, "Calibration")
    assert table_row(text, "Test")[0] == "not measured"


def test_the_evidence_is_said_as_measured_and_where(bare: Path) -> None:
    assert "unknown" in section(write_card(bare).read_text(), "Evidence maps")
    run = run_record()
    run["recipe"] |= {"guidance": 0.5, "progressive_size": 160}
    run["boxed_images"] = 2640
    save(bare, run=run)
    assert "no held-out image has a box" in section(write_card(bare).read_text(), "Evidence maps")
    save(bare, evidence=evidence_figures(590, 0.8111))
    text = write_card(bare).read_text()
    said = section(text, "Evidence maps")
    share = "0.3000 (0.2000 to 0.4000)"
    assert table_row(said, "all") == ["590", "0.8111 (0.7000 to 0.9000)", share, "0.0230", share, "not measured"]
    assert "half of the evidence at the peak" in said
    assert "on 590 validation images" in said and "in 31 groups" in said and "2,640 training images" in said
    assert "plus 0.5 times the guidance by boxes" in text and "160 pixels in the first 60%" in text
    save(bare, results=full_results() | {"evidence": evidence_figures(77, 0.5)})
    assert "on 77 test images" in section(write_card(bare).read_text(), "Evidence maps")


def test_the_contour_is_said_with_its_levels_and_where_they_were_chosen(bare: Path) -> None:
    found = evidence_figures(590, 0.8) | {"levels": {"glioma": 0.8}, "area_ratio": {"value": 1.234}}
    save(bare, evidence=found)
    said = section(write_card(bare).read_text(), "Evidence maps")
    assert table_row(said, "all")[-1] == "1.23" and "`glioma` 80%, chosen on these images" in said
    save(bare, results=full_results() | {"evidence": found})
    assert "`glioma` 80%, chosen on the validation images" in section(write_card(bare).read_text(), "Evidence maps")


def test_training_for_the_extent_alone_is_said(bare: Path) -> None:
    run = run_record() | {"boxed_images": 2640}
    run["recipe"] |= {"guidance": 0.0, "guidance_extent": 0.7}
    save(bare, run=run, evidence=evidence_figures(590, 0.8))
    text = write_card(bare).read_text()
    assert "asked the evidence to lie there" in section(text, "Evidence maps") and "Nothing in" not in text
    assert "0.7 times that of their extent" in text and "times the guidance" not in text


def test_the_guard_is_said_as_measured(bare: Path) -> None:
    assert "There is no guard" in section(write_card(bare).read_text(), "What is no brain MRI")
    save(bare, guard={"acceptance": 0.99}, results=full_results() | {"guard": {"accepted": 0.9847}})
    said = section(write_card(bare).read_text(), "What is no brain MRI")
    assert "accepts 99% of the validation images" in said and "98.47%" in said and "Kind" not in said
    kinds = {"photograph_grey": {"n": 41, "accepted": 2 / 41, "auroc": 0.9931}}
    kinds["ct_drawn"] = {"n": 9, "accepted": 1 / 9, "auroc": 0.9}
    measured = {"impostors": {"n": 412, "sources": 120, "accepted": 0.0073, "auroc": 0.9976}, "kinds": kinds}
    measured |= {"test": {"n": 120, "accepted": 0.9939}, "brains_elsewhere": {"n": 22, "accepted": 20}}
    (bare / "evaluation" / "guard.json").write_text(json.dumps(measured))
    said = section(write_card(bare).read_text(), "What is no brain MRI")
    assert table_row(said, "photograph grey") == ["41", "4.9%", "0.9931"]
    assert (
        "Of the 41 real ones among them it accepts 2;" in said and "Of 22 slices of brain MRI from elsewhere it" in said
    )
    assert "Of the test images it accepts 99.39%" in said and "98.47%" not in said, "of the file that is served"
    assert "412 pictures" in said and "120 sources" in said and "0.73%" in said and "0.9976" in said


def test_what_int8_costs_is_said(bare: Path) -> None:
    int8 = {"kept": True, "accuracy": [0.9712, 0.9703], "same_label": 0.9983, "n": 1143}
    text = write_card(save(bare, export={"int8": int8})).read_text()
    assert "99.83% of 1,143 validation images (accuracy there 0.9703, in float32 0.9712)" in text
    assert "BrainMRIClassifier" in text
    text = write_card(save(bare, export={"int8": int8 | {"kept": False}})).read_text()
    assert "no int8 file" in text


def test_a_single_fold_is_shown_with_its_own_interval(bare: Path) -> None:
    one = patient_wise() | {"finished": [1]}
    one["metrics"] = {"accuracy": {"mean": 0.9625, "values": [0.9625], "low": 0.9235, "high": 0.9863}}
    text = write_card(save(bare, patient_wise=one)).read_text()
    assert table_row(text, "Accuracy") == ["0.9625 (0.9235 to 0.9863)"]


def test_a_threshold_chosen_for_the_weights_before_claims_no_rate(full: Path) -> None:
    chosen = {"threshold": 0.9876, "rate": 0.01, "part": None, "sources": [{"name": "third_hospital"}]}
    for clear, claimed in ((chosen, True), (chosen | {"earlier_stage": True}, False)):
        (full / "calibration.json").write_text(json.dumps(calibration() | {"all_clear": clear}))
        text = write_card(full).read_text(encoding="utf-8")
        assert "0.9876" in text and ("third_hospital" in text) is claimed
        assert ("brain-mri all_clear" in text) is not claimed


@pytest.mark.parametrize(("rate", "told"), [(0.005, "0.5%"), (0.0, "none of the slices")])
def test_a_rule_of_both_sides_is_told_and_what_pipeline_needs_instead(rate: float, told: str, full: Path) -> None:
    chosen = {"threshold": 0.9876, "rate": rate, "part": None, "sources": [{"name": "third_hospital"}]}
    chosen |= {"symmetry": {"threshold": 0.8765, "asymmetry": 0.4321}, "note": "Seen *before*."}
    text = write_card(save(full, calibration=calibration() | {"all_clear": chosen})).read_text(encoding="utf-8")
    assert "0.4321" in text and told in text and "third_hospital" in text
    assert r"Seen \*before\*." in text, "how it was chosen, as text"
    assert "needed = 0.9876" in section(text, "How to use it"), "pipeline knows no sides"


def _teacher(saw: str) -> dict[str, object]:
    stage = {"pretrained": True, "epochs": 9.0, "images": 4569, "seconds": 7200.0}
    return {"model": "/private/place/elder", "sha256": "0123456789abcdef", "saw": saw, "stages": [stage]}


@pytest.mark.parametrize(
    ("saw", "said"),
    [
        ("nothing", None),
        ("validation", "Its teacher was trained on this model's validation images: what was chosen or fitted"),
        ("held out", "so also on images that this model's figures are measured on"),
        ("unknown", "Its teacher left no record of this folder"),
    ],
)
def test_a_student_names_its_teacher_and_what_that_saw_of_the_held_out_images(
    full: Path, saw: str, said: str | None
) -> None:
    save(full, run=json.loads((full / "run.json").read_text()) | {"teacher": _teacher(saw)})
    text = write_card(full).read_text()
    assert table_row(text, "Teacher") == [
        "`elder`, whose answers to the training images were learnt too; its own training took 9 epochs and 2 h 00 min, "
        "on 4,569 images, from published weights; weights `0123456789ab`"
    ]
    assert "50% of it replaced by the distance to the teacher's answers at temperature 2" in table_row(text, "Loss")[0]
    assert "private" not in text and "Hinton" in section(text, "Methods and citation")
    assert ("Its teacher" in section(text, "At a glance")) == (said is not None) and (said or "") in text


def test_weights_from_a_file_are_named_and_claim_no_base_model(bare: Path) -> None:
    run = run_record(model="timm/vgg16.tv_in1k", pretrained=False, weights="/private/place/backbone.safetensors")
    save(bare, run=run | {"weights": {"file": run["model"]["weights"], "sha256": "0" * 64}})
    text = write_card(bare).read_text()
    assert table_row(text, "Weights from a file") == ["the tensors of `backbone.safetensors` that fit"]
    assert "trained further from the weights of a file" in table_row(text, "Network")[0]
    assert "private" not in text and ModelCard(text).data.base_model is None
