"""Cards of trials, and of a user's own schedules in the same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pkpd.cards.diseases import disease_in_words, diseases, read_disease
from pkpd.cards.drug_cards import (
    GROWTH_FACTOR,
    DrugCard,
    drug_names,
    growth_factors,
    is_supportive,
    load_drug_card,
)
from pkpd.cards.files import CardPath, card_names, find_card, nearest_of
from pkpd.cards.population_cards import load_population
from pkpd.cards.question_cards import read_questions
from pkpd.cards.rule_cards import (
    changed_rule,
    load_grades,
    load_rule,
    read_rule_change,
    rules_with_counts,
)
from pkpd.cards.schedule_cards import (
    Library,
    Part,
    assumed_rules,
    assumed_values,
    build_course,
    known_name,
    read_course,
    read_dose,
    read_library,
    unused,
)
from pkpd.cards.tables import REMOVED, Table, read_toml
from pkpd.cards.trial_drugs import TrialDrugs
from pkpd.cards.usual_doses import unusual
from pkpd.errors import CardError
from pkpd.schedule import NEVER, STATUSES, GrowthFactorPolicy, Regimen, parse_days
from pkpd.schedule.amounts import LAST_DAY
from pkpd.subjects import Population, with_medians
from pkpd.trials import Arm, Cohort, DLTRule, PublishedOutcome, Trial

FIRST_DOSE = "first_dose"


def load_trial(name: str | Path, drugs: Iterable[str] = ()) -> Trial:
    """Read a trial by its name, such as ``nct01681537_len_mec``, or from a user's own file.

    Parameters
    ----------
    name
        Name of a shipped card, or path of a ``.toml`` file.
    drugs
        Drugs that are known besides those with a shipped card.

    Raises
    ------
    CardError
        If the card is missing or a value in it cannot be used: one sentence with the file, the
        table, the key, the value, what is allowed and the remedy.

    Examples
    --------
    >>> trial = load_trial("nct01681537_len_mec")
    >>> [cohort.id for cohort in trial.cohorts][:2]
    ['14d-10', '14d-5']
    """
    path = find_card("trials", name)
    root = read_toml(path)
    return _read_trial(root, path, TrialDrugs(Path(str(path)).parent, frozenset(drugs)))


def trial_of(data: Mapping[str, Any], path: Path) -> Trial:
    """Read a trial from what its file holds, or would hold.

    Parameters
    ----------
    data
        As `tomllib` gives it.
    path
        Where the file lies, or would: what it names lies beside it, and errors name it.

    Raises
    ------
    CardError
        As `load_trial`.
    """
    return _read_trial(Table(data, path.name), path, TrialDrugs(path.parent))


def rules_for(trial: Trial, cohort: Cohort) -> tuple[DLTRule, ...]:
    """Rules of a cohort, one for each clock, the main one first.

    Returns
    -------
    tuple of DLTRule
        The same rule with its `clock` set to ``first_dose`` or to the name of a course.
    """
    rule = load_rule(beside(cohort.rule or "", Path(trial.path)))
    rule = changed_rule(rule, trial.rule_change)
    return tuple(replace(rule, clock=clock) for clock in cohort.clocks)


def population_of(trial: Trial) -> Population:
    """Read the population of a trial: its card, or the file beside the trial's, as moved by it.

    Raises
    ------
    CardError
        If there is no such card.
    """
    found = load_population(str(beside(trial.population, Path(trial.path))))
    return with_medians(found, dict(trial.medians))


def patients_of_cohort(cohort: Cohort, population: Population) -> Population:
    """Move the population of a trial on to the medians that a cohort has of its own."""
    if not cohort.medians:
        return population
    return with_medians(population, {**dict(population.medians), **dict(cohort.medians)})


def disease_of(trial: Trial, population: Population | None = None) -> str:
    """Disease of a trial's patients, by its name in the marrow with leukaemia.

    Parameters
    ----------
    trial
        The trial.
    population
        In place of the trial's own.

    Raises
    ------
    CardError
        If neither the population nor the trial names one.
    """
    found = (population or population_of(trial)).disease
    if not found and population is None:
        found = trial.disease
    if not found:
        name = Path(trial.population).name if population is None else population.name
        raise CardError(
            where=f"trial {trial.id}",
            what=f"population {name} names no disease, which the marrow with leukaemia needs",
            allowed=", ".join(diseases()),
            remedy='add it to the population card, such as disease = "aml_unfit", or use the '
            "marrow without leukaemia (--marrow friberg)",
        )
    return found


def drug_card_of(trial: Trial, drug: str) -> DrugCard:
    """Card of a drug of a trial: the file beside the trial's, or the shipped card."""
    file = dict(trial.drug_cards).get(drug)
    return load_drug_card(drug if file is None else str(beside(file, Path(trial.path))))


def has_card(trial: Trial, drug: str) -> bool:
    """Whether a card describes a drug of a trial; a fit may know one without."""
    return drug in dict(trial.drug_cards) or drug.casefold() in drug_names()


def clock_day_1(regimen: Regimen, clock: str) -> int:
    """Protocol day of the first dose that a clock counts from, when nothing is delayed.

    Doses of supportive drugs are not counted, unless a course has no others.

    Parameters
    ----------
    regimen
        Courses in sequence.
    clock
        ``first_dose``, or the name of a course.

    Examples
    --------
    >>> from pkpd.schedule import daily, on_off
    >>> first = daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
    >>> then = first.then(on_off("lenalidomide", "25 mg", on=21, off=7, cycles=1), start_day=29)
    >>> clock_day_1(then, "first_dose"), clock_day_1(then, then.courses[1].name)
    (1, 29)
    """
    course = regimen.courses[0] if clock == FIRST_DOSE else regimen.course(clock)
    start = regimen.start_days[regimen.courses.index(course)]
    treated = [rule for rule in course.doses if not is_supportive(rule.drug, rule.card)]
    return start + min(rule.days[0] for rule in treated or course.doses) - 1


def _read_trial(root: Table, path: CardPath, drugs: TrialDrugs) -> Trial:
    stem = Path(path.name).stem
    root.one_of("kind", ("trial",), default="trial")
    title = root.text("title")
    library = read_library(root).named(drugs.name)
    doses = {name: drugs.checked(part) for name, part in library.doses.items()}
    library = replace(library, doses=doses)
    horizon = root.integer("horizon_days", minimum=1, maximum=LAST_DAY)
    notes = list(root.texts("assumptions", default=()))
    visit_days = _visit_days(root, horizon, notes)
    population = root.text("population")
    with root.at("population"):
        patients = load_population(str(beside(population, Path(str(path)))))
    arms = _read_arms(root, library, notes, drugs)
    grades = root.text("grades", default="ctcae_v5")
    grades = str(beside(grades, Path(str(path))))
    with root.at("grades"):
        load_grades(grades)
    trial = Trial(
        id=root.text("id", default=stem),
        name=root.text("name", default=stem),
        title=title,
        disease=_disease(root, patients),
        condition=root.text("condition", default=""),
        phase=root.text("phase", default=""),
        population=population,
        arms=arms,
        rule=root.text("rule", default=None),
        rule_is_protocols=root.boolean("rule_is_protocols", default=True),
        rule_note=root.text("rule_note", default=""),
        grades=grades,
        horizon_days=horizon,
        visit_days=visit_days,
        references=root.texts("references", default=()),
        published=_read_published(root),
        assumptions=tuple(dict.fromkeys(notes)),
        drug_cards=tuple(drugs.files.items()),
        growth_factor=_growth_factor(root, drugs, horizon),
        medians=_medians(root),
        rule_change=_rule_change(root),
        evidence_studies=root.texts("evidence_studies", default=()),
        unnamed=unused(root, library, [c.regimen for arm in arms for c in arm.cohorts]),
        path=str(path),
    )
    trial = replace(trial, questions=read_questions(root, trial))
    root.done()
    for cohort in trial.cohorts:
        _check_rules(root, trial, cohort)
    return trial


def _disease(root: Table, patients: Population) -> str:
    """Disease of the trial: that of its population, which its own key may confirm or complete."""
    remedy = "name one of them, and write who the trial is for as condition"
    own = read_disease(root, patients.disease, remedy)
    if patients.disease and own != patients.disease:
        same = [n for n in card_names("populations") if load_population(n).disease == own]
        root.refuse(
            "disease",
            f"population {patients.name} is of {patients.disease} "
            f"({disease_in_words(patients.disease)}), not of {own}",
            allowed=patients.disease,
            remedy=f"or name a population of {own}: {', '.join(same) or 'none is shipped'}",
        )
    return own


def _read_arms(
    root: Table, library: Library, notes: list[str], drugs: TrialDrugs
) -> tuple[Arm, ...]:
    arms: dict[str, list[Cohort]] = {}
    seen: set[str] = set()
    rows = root.tables("cohort", default=()) or (Table({"id": "all"}, root.file, root.path),)
    for row in rows:
        arm = row.text("arm", default="all")
        cohort = _read_cohort(root, row, library, notes, drugs)
        if cohort.id in seen:
            row.refuse("id", f"two cohorts are named {cohort.id!r}", remedy="rename one")
        seen.add(cohort.id)
        arms.setdefault(arm, []).append(cohort)
    return tuple(Arm(name, tuple(cohorts)) for name, cohorts in arms.items())


def _read_cohort(
    root: Table, row: Table, library: Library, notes: list[str], drugs: TrialDrugs
) -> Cohort:
    cohort_id = row.text("id")
    about: dict[str, Any] = {
        "label": row.text("label", default=cohort_id),
        "n": row.integer("n", default=None, minimum=0),
        "level": row.integer("level", default=None),
        "note": row.text("note", default=""),
        "published": _read_published(row),
        "medians": _medians(row),
    }
    rule = row.text("rule", default=root.text("rule", default=None))
    row.texts("clocks", default=())
    names = row.texts("courses", default=tuple(library.courses))
    changes = row.named_tables("change", default={})
    row.knows_all_keys()  # one that is only misspelt may be why another is refused
    if rule is None:
        row.refuse(
            "rule",
            f"cohort {cohort_id!r} has no count rule, and the trial has none either",
            allowed=", ".join(rules_with_counts()),
            remedy='add a rule at the top of the file, such as rule = "leukemia_d42_generic", and '
            "rule_is_protocols = false if it is not the protocol's",
        )
    with (row if "rule" in row else root).at("rule"):
        of_rule = (load_rule(beside(rule, drugs.folder / "this")).clock,)
    for name in names:
        known_name(row, "courses", name, library.courses)
    doses, courses = _changed(row, changes, cohort_id, names, library, drugs)
    built = [build_course(name, courses[name], doses, library) for name in names]
    with row.at("courses"):
        regimen = Regimen(tuple(built))
    for name in names:
        notes += assumed_values(name, courses[name])
        for dose in courses[name].values["doses"]:
            notes += assumed_values(dose, doses[dose])
    for course in built:
        notes += assumed_rules(course)
    return Cohort(
        id=cohort_id,
        regimen=regimen,
        rule=rule,
        clocks=_clocks(row, _clocks(root, of_rule)),
        **about,
    )


def _clocks(table: Table, of_rule: tuple[str, ...]) -> tuple[str, ...]:
    clocks = table.texts("clocks", default=of_rule)
    if not clocks or len(set(clocks)) < len(clocks):
        what = "two are the same" if clocks else "the list is empty"
        key, remedy = "clocks", "name each once, or remove the key"
        raise table.error(key, what, None, remedy, REMOVED)
    return clocks


def _changed(
    row: Table,
    changes: Mapping[str, Table],
    cohort: str,
    names: tuple[str, ...],
    library: Library,
    drugs: TrialDrugs,
) -> tuple[dict[str, Part], dict[str, Part]]:
    doses, courses = dict(library.doses), dict(library.courses)
    for name in (name for name in changes if name in names):
        courses[name] = courses[name].changed(read_course(changes[name], complete=False), cohort)
    given = {d for of in (courses, library.courses) for n in names for d in of[n].values["doses"]}
    used = given & doses.keys()
    for name, change in changes.items():
        if name in names:
            continue
        if name in used:
            changed = doses[name].changed(read_dose(change), cohort)
            if "drug" in change:
                drug = drugs.name(change, changed.values["drug"])
                changed = replace(changed, values={**changed.values, "drug": drug})
            doses[name] = drugs.checked(changed)
        else:
            what = f"there is no dose or course {name!r} in this cohort"
            known = [*names, *sorted(used)]
            remedy = None
            if name in doses:
                course = names[0] if names else "<course>"
                remedy = f'add it to one: change.{course} = {{ doses = [..., "{name}"] }}'
            what += nearest_of(name, known)
            row.refuse(f"change.{name}", what, ", ".join(known), remedy)
    return doses, courses


def _read_published(table: Table) -> tuple[PublishedOutcome, ...]:
    found = []
    for row in table.tables("published", default=()):
        with row.at():
            found.append(
                PublishedOutcome(
                    endpoint=row.text("endpoint"),
                    value=row.number("value", default=None),
                    lower=row.number("lower", default=None),
                    upper=row.number("upper", default=None),
                    numerator=row.integer("numerator", default=None, minimum=0),
                    denominator=row.integer("denominator", default=None, minimum=1),
                    definition=row.text("definition", default=""),
                    source=row.text("source"),
                    status=row.one_of("status", STATUSES),
                )
            )
    return tuple(found)


def _visit_days(root: Table, horizon: int, notes: list[str]) -> tuple[int, ...]:
    if "visit_days" not in root:
        notes.append(
            "Visits are taken to be twice a week, on days 1 and 4: rows that say "
            '"on visits" read counts there, all others every morning.'
        )
        return tuple(day for day in range(1, horizon + 1) if day % 7 in (1, 4))
    written = root.data["visit_days"]
    with root.at("visit_days"):
        days, cycle = parse_days(tuple(written) if isinstance(written, list) else str(written))
    if cycle is not None:
        root.refuse("visit_days", f"a cycle of {cycle} days", "protocol days", "write all of them")
    if days[-1] > horizon:
        root.refuse(
            "visit_days",
            f"day {days[-1]} is after the horizon of {horizon} days",
            remedy="raise horizon_days or leave the day out",
        )
    return days


def _growth_factor(root: Table, drugs: TrialDrugs, horizon: int) -> GrowthFactorPolicy:
    """Growth factor by need, ``[growth_factor]``."""
    row = root.table("growth_factor", None)
    if row is None:
        return NEVER
    drug = drugs.name(row, row.text("drug"))
    card = drugs.card(drug)
    if card.leukaemia is None or card.leukaemia.acts_by != GROWTH_FACTOR:
        known = ", ".join(sorted(growth_factors()))
        row.refuse("drug", f"{drug} is no growth factor given day by day", known)
    usual = card.usual_dose
    amount = row.text("amount", *([] if usual is None else [f"{usual.value:g} {usual.unit}"]))
    with row.at("amount"):
        policy = GrowthFactorPolicy(
            below=row.number("below", above=0.0, maximum=20.0),
            from_day=row.integer("from_day", default=1, minimum=1, maximum=horizon),
            amount=amount,
            drug=drug,
        )
    what = unusual(card, *policy.dose)
    if what:
        row.refuse("amount", what, remedy="correct number or unit, or leave the amount out")
    row.text("source", "")
    row.text("status", "")
    return policy


def _medians(of: Table) -> tuple[tuple[str, float], ...]:
    """Medians that the patients of a trial or a cohort are moved to, ``[patients]``."""
    row = of.table("patients", None)
    if row is None:
        return ()
    found = {
        "age": row.number("median_age_years", None, minimum=1, maximum=95, unit="years"),
        "weight": row.number("median_weight_kg", None, minimum=5, maximum=250, unit="kg"),
        "crcl": row.number(
            "median_creatinine_clearance_mL_min", None, minimum=5, maximum=250, unit="mL/min"
        ),
    }
    row.done()
    return tuple((name, float(value)) for name, value in found.items() if value is not None)


def _rule_change(root: Table) -> tuple[tuple[str, Any], ...]:
    row = root.table("rule_change", None)
    return () if row is None else read_rule_change(row)


def _check_rules(root: Table, trial: Trial, cohort: Cohort) -> None:
    with root.at("rule"):
        rules = rules_for(trial, cohort)
    for rule in rules:
        if not rule.can_be_simulated:
            root.refuse(
                "rule",
                f"{cohort.rule!r} has no count threshold and cannot be simulated",
                allowed=", ".join(rules_with_counts()),
            )
        clocks = (FIRST_DOSE, *(course.name for course in cohort.regimen.courses))
        if rule.clock not in clocks:
            root.refuse(
                "clocks",
                f"{rule.clock!r} is no course of cohort {cohort.id!r}"
                + nearest_of(rule.clock, clocks),
                allowed=", ".join(clocks),
            )
        # the morning after the rule's day counts
        last = clock_day_1(cohort.regimen, rule.clock) + (rule.by_day or 0)
        if last > trial.horizon_days:
            root.refuse(
                "horizon_days",
                f"{trial.horizon_days} days end before the morning after day {rule.by_day} of rule "
                f"{rule.name!r}, that of day {last} in cohort {cohort.id!r} (counted from "
                f"{rule.clock})",
                allowed=f"{last} or more",
                remedy="raise horizon_days",
            )


def beside(name: str, card: Path) -> str | Path:
    """Path of a card that a user's file names, relative to that file."""
    return card.parent / name if name.endswith(".toml") else name
