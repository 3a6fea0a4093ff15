"""The model card's figures for the page, from the model folder. What was not measured is absent, never zero."""

from __future__ import annotations

from typing import Any, cast

from brain_mri.labels import is_healthy
from brain_mri.model_folder import ModelRecords
from brain_mri.reporting.protocols import Protocol, chosen_all_clear, figure_of, in_order, protocols, safety_counts
from page import pictures
from page.service import Service
from page.texts import Texts
from page.views import render

_REMOVING = ("leak-free", "without-review")
_SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")


def about_html(service: Service, t: Texts) -> str:
    """What the folder of the served model says of it."""
    records, folder = service.records, service.folder
    if records is None or folder is None:
        problem = t("about_no_folder", reason=service.records_missing)
        return render(
            "about",
            t,
            problem=problem,
            model="",
            safety=[],
            columns=[],
            calibration=[],
            plots=[],
            limits=t["limits"],
            minutes=service.minutes,
        )
    measured = in_order(protocols(records))
    plots = [
        (t["plots"][_stem(name)], pictures.data_uri((folder / name).read_bytes(), "image/png"))
        for name in records.pictures
    ]
    return render(
        "about",
        t,
        problem="" if measured else t("about_missing"),
        model=_model(service, records, t),
        safety=_safety(measured, records, t),
        columns=[_title(protocol, t) for protocol in measured],
        rows=[row for key in (*_SHARES, "expected_calibration_error") if (row := _row(key, measured, records, t))],
        notes=_notes(measured, records, t),
        calibration=_calibration(records, t),
        limits=[*t["limits"], *_shortcut(records, t)],
        plots=plots,
        minutes=service.minutes,
    )


def about_record(service: Service) -> dict[str, Any]:
    """The same figures for programs: `{protocol: {figure: {value, low, high}}}`, only those that were measured."""
    records = service.records
    found: dict[str, dict[str, Any]] = {}
    if records is None:
        return found
    for protocol in protocols(records):
        found[protocol.key] = {}
        for key in (*_SHARES, "expected_calibration_error"):
            if (figure := figure_of(key, protocol, records)) is not None:
                found[protocol.key][key] = figure
        if protocol.safety:
            found[protocol.key]["false_all_clear"] = protocol.safety["false_all_clear"]
    return found


def _row(key: str, measured: list[Protocol], records: ModelRecords, t: Texts) -> tuple[str, list[str]] | None:
    figures = [figure_of(key, protocol, records) for protocol in measured]
    return (t["figures"][key], [_cell(key, figure, t) for figure in figures]) if any(figures) else None


def _cell(key: str, figure: dict[str, float] | None, t: Texts) -> str:
    if figure is None:
        return ""

    def shown(value: float) -> str:
        return f"{100 * value:.2f}%" if key == "accuracy" else f"{value:.4f}"

    interval = f" ({shown(figure['low'])} \u2013 {shown(figure['high'])})" if "low" in figure else ""
    return t.number(shown(figure["value"]) + interval)


def _safety(measured: list[Protocol], records: ModelRecords, t: Texts) -> list[str]:
    """False all-clears, other sources first, whose lack is said aloud; nothing of a set without a healthy class."""
    if not any(is_healthy(label) for label in records.run["splits"]["train"]):
        return []
    known = [protocol for protocol in measured if protocol.safety]
    lines = [_false_all_clears(protocol, t) for protocol in known if protocol.is_external]
    lines = lines or [t("safety_not_measured")]
    lines += [_false_all_clears(protocol, t) for protocol in known if not protocol.is_external]
    if chosen := chosen_all_clear(records):
        key = "safety_chosen_symmetric" if chosen["symmetric"] else "safety_chosen"
        lines.append(t(key, threshold=t.percent(chosen["threshold"], 2), sources=", ".join(chosen["sources"])))
    return lines


def _false_all_clears(protocol: Protocol, t: Texts) -> str:
    found = safety_counts(protocol)
    interval = f" ({t.percent(found['low'])} \u2013 {t.percent(found['high'])})" if "low" in found else ""
    line = t("safety_line", title=_title(protocol, t), share=t.percent(found["value"]) + interval, **found)
    return f"{line} {t('safety_healthy', **found)}" if found["healthy"] else line


def _title(protocol: Protocol, t: Texts) -> str:
    if protocol.is_external:
        return str(t["protocols"]["external"]).format(name=protocol.data["name"])
    return str(t["protocols"][protocol.key])


def _notes(measured: list[Protocol], records: ModelRecords, t: Texts) -> list[str]:
    notes = []
    for protocol in measured:
        key = "external" if protocol.is_external else protocol.key
        values: dict[str, Any] = {"name": protocol.data["name"]}
        if protocol.scores is not None:
            values["images"] = protocol.scores["n"]
        if key in _REMOVING and records.results:
            values["removed"] = dict[str, Any](records.results)[key.replace("-", "_")]["removed"]
        if protocol.scores is None and records.patient_wise:
            values["folds"] = len(next(iter(records.patient_wise["metrics"].values()))["values"])
        notes.append(t["protocol_notes"][key].format(**values))
    folds = records.patient_wise
    if folds and not any(is_healthy(name) for name in folds["label_names"]):
        notes.append(t("folds_tumours_only", name=folds["data"]["name"]))
    if scored := next((protocol.scores for protocol in measured if protocol.scores), None):
        bootstrap = scored["bootstrap"]
        notes.append(t("about_interval", level=t.percent(bootstrap["level"], 0), resamples=bootstrap["resamples"]))
    return notes


def _model(service: Service, records: ModelRecords, t: Texts) -> str:
    run = records.run
    images = sum(run["splits"]["train"].values())
    data = str(run["data"]["data_dir"]).rstrip("/").split("/")[-1]
    return t("about_model", model=service.model, images=images, data=data, size=run["model"]["image_size"])


def _calibration(records: ModelRecords, t: Texts) -> list[str]:
    lines: list[str] = []
    chosen, results = records.calibration, cast(dict[str, Any], records.results or {})
    if chosen:
        lines.append(t("calibration_fit", temperature=t.number(f"{chosen['temperature']:.3f}"), n=chosen["n"]))
    if before := results.get("before_calibration"):
        after = results["scores"]["expected_calibration_error"]["value"]
        numbers = [t.number(f"{x:.4f}") for x in (before["expected_calibration_error"], after)]
        lines.append(t("calibration_ece", before=numbers[0], after=numbers[1]))
    if sets := results.get("prediction_sets"):
        measured = t.percent(sets["coverage_shown"], 2)
        lines.append(t("calibration_sets", coverage=t.percent(sets["target"], 0), measured=measured))
    if (referral := results.get("referral")) and referral["threshold"] <= 1:
        kept = (
            t("calibration_kept", accuracy=t.percent(referral["accuracy_kept"], 2))
            if "accuracy_kept" in referral
            else ""
        )
        shares = {"threshold": t.percent(referral["threshold"]), "referred": t.percent(referral["referred"])}
        lines.append(t("calibration_referral", kept=kept, **shares))
    # of the file that answers here, where `benchmarks/ood/guard.py` has measured it, else of the float32 weights
    if guard := (records.guard_test or {}).get("test") or results.get("guard"):
        lines.append(t("guard_accepted", accepted=t.percent(guard["accepted"], 2)))
    if evidence := results.get("evidence"):
        shares = {
            "pointing": t.percent(evidence["pointing_game"]["value"]),
            "area": t.percent(evidence["box_area"]["value"]),
        }
        lines.append(t("evidence_pointing", n=evidence["n"], **shares))
    return lines


def _shortcut(records: ModelRecords, t: Texts) -> list[str]:
    control = records.results.get("shortcut") if records.results else None
    return [t("shortcut", accuracy=t.percent(control["accuracy"]))] if control else []


def _stem(name: str) -> str:
    return name.split("/")[-1].removesuffix(".png")
