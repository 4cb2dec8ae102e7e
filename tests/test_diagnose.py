"""Diagnosis: accuracy against scikit-learn and by hand, and verdicts that are known."""

import functools
import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from jaxtyping import Array, Bool
from rich.console import Console
from scipy import stats
from sklearn.metrics import brier_score_loss, r2_score

import cascjax
from cascjax import plots
from cascjax.cli import main
from cascjax.core.random import key_of, weights
from cascjax.data.table import EVALUATE, FIT, Table, mean_rows
from cascjax.diagnosis import (
    Apart,
    Case,
    Diagnosis,
    Need,
    Span,
    diagnose,
    diagnosed_strategies,
    sides,
)
from cascjax.engine.options import RunOptions
from cascjax.errors import CascjaxError
from cascjax.estimators import Estimates, Estimator, Independent, noisy
from cascjax.estimators.better import Side, improved, perfect_ante, perfect_post, reduced, refitted
from cascjax.estimators.specs import Noisy
from cascjax.metrics import budgets
from cascjax.metrics.bootstrap import interval, simultaneous
from cascjax.metrics.calibration import (
    accuracy,
    correlation,
    differences_r2,
    equal_mass,
    pooled_differences_r2,
    reliability,
)
from cascjax.report.diagnosis import (
    actions,
    bins_frame,
    headline,
    need_text,
    print_diagnosis,
    reasons,
    render,
    to_json,
)
from cascjax.strategies import Oracle

N, RESAMPLES, BUDGETS = 1200, 400, 12
"""Queries, resamples and budgets of most: what one diagnosis compiles serves the others."""

SHORT = ("routing", "thresholding", "pandora")  # Strategies that are cheap to compile


def world(n: int = N, seed: int = 0) -> Table:
    """Return three models, right or wrong, of rising cost and skill; half the queries to fit on."""
    rng = np.random.default_rng(seed)
    hard = rng.standard_normal((n, 1))
    chance = 1 / (1 + np.exp(-(np.array([0.0, 0.7, 1.6]) - hard)))
    quality = (rng.random((n, 3)) < chance).astype(np.float32)
    cost = (np.array([1.0, 3, 10]) * rng.lognormal(0, 0.3, (n, 3))).astype(np.float32)
    split = np.where(np.arange(n) % 2, EVALUATE, FIT).astype(np.int8)
    return Table(quality, cost, split=split, models=("a", "b", "c"), cost_unit="cent")


def simulated(table: Table, ante: float, post: float, seed: int = 1) -> Independent:
    """Return noisy estimates whose costs are nearly right."""
    return noisy(table, jax.random.key(seed), (float(ante), float(post), 0.1, 0.01))


def case(table: Table, estimator: Estimator, resamples: int = 0) -> Case:
    fit, evaluate = np.flatnonzero(table.split == FIT), np.flatnonzero(table.split == EVALUATE)
    single = mean_rows(table.cost, evaluate), mean_rows(table.quality, evaluate)
    return Case(table, estimator, fit, evaluate, budgets(*single, BUDGETS), resamples)


def diagnosed(ante: float, post: float, resamples: int = RESAMPLES) -> Diagnosis:
    table = world()
    measured = case(table, simulated(table, ante, post), resamples)
    return measured.diagnose(diagnosed_strategies(SHORT), target=0.0)


@functools.cache
def good() -> Diagnosis:
    return diagnosed(0.5, 0.2)


@functools.cache
def useless() -> Diagnosis:
    return diagnosed(1e4, 1e4)


class TestAccuracy:
    def test_four_queries_by_hand(self) -> None:
        e = np.array([[0.2], [0.8], [0.6], [0.4]])
        q = np.array([[0.0], [1], [1], [0]])
        found = accuracy(e, q, np.array([0.5]))
        assert found.brier.value == pytest.approx(0.1)
        assert found.prior_brier == pytest.approx(0.25)
        assert found.r2.value == pytest.approx(0.6)
        assert found.bias.value == pytest.approx(0)
        assert found.slope.value == pytest.approx(2)
        bins = reliability(e[:, 0], q[:, 0], bins=2)
        assert bins.estimate == pytest.approx([0.3, 0.7])
        assert bins.quality.tolist() == [0, 1]
        assert bins.count.tolist() == [2, 2]
        assert bins.ece == pytest.approx(0.3)
        assert bins.reliability == pytest.approx(0.09)
        assert bins.uncertainty == pytest.approx(0.25)
        # Of bins resolution is 0.25; within them estimates vary by 0.01 and tell nothing.
        assert bins.resolution == pytest.approx(0.24)

    def test_as_scikit_learn_has_it(self) -> None:
        rng = np.random.default_rng(0)
        e = rng.random((500, 3)).astype(np.float32)
        q = (rng.random((500, 3)) < e**2).astype(np.float32)
        found, e, q = accuracy(e, q, q.mean(0)), e.astype(np.float64), q.astype(np.float64)
        for k in range(3):
            assert found.r2.value[k] == pytest.approx(r2_score(q[:, k], e[:, k]), abs=1e-12)
            brier = brier_score_loss(q[:, k], e[:, k])
            assert found.brier.value[k] == pytest.approx(brier, abs=1e-7)
            bins = reliability(e[:, k], q[:, k])
            parts = bins.reliability - bins.resolution + bins.uncertainty
            assert parts == pytest.approx(brier, abs=1e-7)

    def test_intervals_are_those_of_weighted_scores(self) -> None:
        rng = np.random.default_rng(1)
        q = rng.random((200, 2)).astype(np.float32)
        e = (0.3 + 0.4 * q + 0.1 * rng.standard_normal((200, 2))).astype(np.float32)
        rows = np.arange(200) * 3
        sure: dict[str, Any] = {"rows": rows, "resamples": 60, "confidence": 0.9, "seed": 7}
        found = accuracy(e, q, q.mean(0), **sure)
        drawn = np.asarray(weights(key_of(7), rows.astype(np.uint32), 60))
        r2 = [r2_score(q, e, sample_weight=w, multioutput="raw_values") for w in drawn]
        slope = [
            [np.polyfit(e[:, k], q[:, k], 1, w=np.sqrt(w))[0] for k in range(2)] for w in drawn
        ]
        assert found.r2.ends is not None
        assert found.slope.ends is not None
        # float32 moments: 1e-7 of each, a little more in ratios of their differences.
        np.testing.assert_allclose(found.r2.ends, interval(np.array(r2), 0.9), atol=1e-5)
        np.testing.assert_allclose(found.slope.ends, interval(np.array(slope), 0.9), atol=1e-5)

    def test_what_does_not_vary_has_no_score(self) -> None:
        q = np.array([[1.0, 0], [1, 1], [1, 0]])
        found = accuracy(np.full((3, 2), 0.5), q, q.mean(0))
        assert np.isnan(found.r2.value[0])
        assert found.r2.value[1] == pytest.approx(1 - 0.25 / (2 / 9))
        assert np.isnan(found.slope.value).all()

    def test_differences_against_a_loop_over_pairs(self) -> None:
        rng = np.random.default_rng(2)
        q, e = rng.random((300, 4)), rng.random((300, 4))
        e = 0.5 * e + 0.5 * q
        pairs, error, spread = differences_r2(e, q), 0.0, 0.0
        for i in range(4):
            for j in range(i):
                d, t = e[:, i] - e[:, j], q[:, i] - q[:, j]
                assert pairs[i, j] == pairs[j, i] == pytest.approx(r2_score(t, d))
                error, spread = error + np.mean((d - t) ** 2), spread + np.var(t)
        assert pooled_differences_r2(e, q).value[0] == pytest.approx(1 - error / spread)
        same = np.repeat(q[:, :1], 3, axis=1)
        assert np.isnan(pooled_differences_r2(e[:, :3], same).value[0])
        assert np.isnan(differences_r2(e[:, :3], same)).all()

    def test_correlation_as_numpy_has_it(self) -> None:
        v = np.random.default_rng(3).standard_normal((50, 3))
        np.testing.assert_allclose(correlation(v), np.corrcoef(v.T), atol=1e-12)
        v[:, 1] = 7
        assert np.isnan(correlation(v)[0, 1])


class TestReliability:
    def test_calibrated_estimates_are_found_so(self) -> None:
        rng = np.random.default_rng(0)
        e = rng.random(20_000)
        q = (rng.random(20_000) < e).astype(float)
        bins = reliability(e, q)
        assert bins.count.tolist() == [2000] * 10
        assert bins.calibrated
        assert bins.ece < 0.02  # by chance about 0.008
        assert accuracy(e[:, None], q[:, None], q[:1]).slope.value[0] == pytest.approx(1, abs=0.04)
        bent = reliability(e**2, q)
        assert not bent.calibrated
        assert bent.ece == pytest.approx(1 / 6, abs=0.01)  # the mean of e - e^2

    def test_chance_is_called_miscalibration_as_often_as_promised(self) -> None:
        rng, every = np.random.default_rng(1), []
        for seed in range(300):
            e = rng.uniform(0.1, 0.9, 400)
            every.append(reliability(e, (rng.random(400) < e).astype(float), seed=seed))
        wrong = np.mean([not bins.calibrated for bins in every])
        assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
        ece, by_chance = (
            np.mean([getattr(b, name) for b in every]) for name in ("ece", "by_chance")
        )
        assert ece == pytest.approx(by_chance, rel=0.05)  # three standard errors of the mean

    def test_wilson_and_student(self) -> None:
        e, q = np.full(50, 0.5), np.repeat([1.0, 0.0], [12, 38])
        bins, z = reliability(e, q), stats.norm.ppf(0.975)
        middle = (0.24 + z**2 / 100) / (1 + z**2 / 50)
        half = z / (1 + z**2 / 50) * np.sqrt(0.24 * 0.76 / 50 + z**2 / 10_000)
        assert (bins.low[0], bins.high[0]) == pytest.approx((middle - half, middle + half))
        graded = np.random.default_rng(0).random(50)
        ends = stats.ttest_1samp(graded, 0).confidence_interval()
        bins = reliability(e, graded)
        assert (bins.low[0], bins.high[0]) == pytest.approx((ends.low, ends.high))

    def test_equal_estimates_share_a_bin(self) -> None:
        assert equal_mass(np.full(9, 0.3), 4).tolist() == [0] * 9
        e = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.7, 0.8, 0.9])
        place = equal_mass(e, 4)
        assert len(set(place[:5].tolist())) == 1
        assert sorted(set(place.tolist())) == list(range(place.max() + 1))


class TestBetter:
    @pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
    def test_more_is_explained_as_promised_and_without_bias(self, share: float) -> None:
        table = world(30_000)
        rows, start = np.arange(table.n_queries), simulated(table, 0.9, 0.5)
        start = replace(start, quality_ante=np.asarray(start.quality_ante) ** 2)  # in need of a fit
        fitted, better = (improved(start, table, rows, "ante", each) for each in (0.0, share))
        now, then = (
            accuracy(np.asarray(each.quality_ante), table.quality, np.zeros(3))
            for each in (fitted, better)
        )
        # The noise drawn correlates with the truth by 1 / sqrt(n), 0.005.
        expected = 1 - (1 - share) * (1 - now.r2.value)
        np.testing.assert_allclose(then.r2.value, expected, atol=0.01)
        np.testing.assert_allclose(then.slope.value, 1, atol=1e-4)
        np.testing.assert_allclose(then.bias.value, 0, atol=1e-5)
        assert np.array_equal(better.quality_post, start.quality_post)
        move = np.asarray(better.quality_ante, np.float64) - better.quality_post
        np.testing.assert_allclose(better.sigma[0], move.std(0), rtol=1e-4)

    def test_little_signal_does_not_give_the_truth_away(self) -> None:
        table = world(20_000)
        start = replace(simulated(table, 1, 1), quality_ante=np.full(table.quality.shape, 0.5))
        e = improved(start, table, np.arange(20_000), "ante", 0.02).quality_ante
        e, right = np.asarray(e)[:, 0], table.quality[:, 0] == 1
        over = stats.mannwhitneyu(e[right], e[~right]).statistic / right.sum() / (~right).sum()
        # R2 0.02 of two normals of equal spread: they lie 0.286 standard deviations apart.
        assert over == pytest.approx(stats.norm.cdf(0.286 / np.sqrt(2)), abs=0.02)

    def test_a_refit_remembers(self) -> None:
        table = world(4000)
        start = simulated(table, 0.6, 0.6)
        of = refitted(start, table, np.arange(4000))
        x = np.stack([np.ones(4000), start.quality_ante[:, 0], start.quality_post[:, 0]], axis=1)
        weight = np.linalg.lstsq(x, table.quality[:, 0])[0]
        np.testing.assert_allclose(of.quality_post[:, 0], x @ weight, atol=1e-5)

    def test_perfect_estimates_reach_the_oracle(self) -> None:
        table = world()
        of = replace(perfect_ante(simulated(table, 1, 1), table), cost_ante=table.cost)
        measured = case(table, of)
        best = measured.frontier(Oracle(), of).auc
        for kind in diagnosed_strategies(["routing", "pandora"]):
            # A price low enough for all queries fitted on is too high for one or two of the 600.
            assert measured.frontier(kind, of).auc == pytest.approx(best, abs=2 / 600)

    def test_perfect_post_hoc_sigma_is_the_spread_of_the_error(self) -> None:
        table = world()
        start = simulated(table, 0.8, 0.4)
        of = perfect_post(start, table, np.arange(50))
        error = (np.asarray(start.quality_ante, np.float64) - table.quality)[:50]
        np.testing.assert_allclose(of.sigma[0], error.std(0), rtol=1e-5)
        assert of.quality_post is table.quality


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Joint:
    """Estimates that rise by 0.1 for every other model that has run: not independent."""

    of: Independent

    def __call__(self, run: Bool[Array, "B K"]) -> Estimates:
        found = self.of(run)
        others = run.sum(-1, keepdims=True) - run
        return replace(found, quality=found.quality + 0.1 * others)

    def take(self, rows: slice | np.ndarray) -> "Joint":
        return Joint(self.of.take(rows))


def test_another_estimator_is_reduced_to_what_one_answer_shows() -> None:
    table = world()
    start = simulated(table, 0.5, 0.3)
    of, every = reduced(Joint(start), table)
    for name in ("quality_ante", "quality_post", "cost_ante", "cost_post"):
        np.testing.assert_allclose(getattr(of, name), getattr(start, name), atol=1e-6)
    np.testing.assert_allclose(every, np.asarray(start.quality_post) + 0.2, atol=1e-6)
    assert reduced(start, table)[0] is start
    measured = case(table, Joint(start))
    found = measured.diagnose(
        diagnosed_strategies("routing"), target=0.0, notes=["prior mean of b"]
    )
    assert [s.name for s in found.scenarios][:3] == ["now", "reduced", "refitted"]
    assert "Estimator: prior mean of b." in reasons(found)
    assert found.answer == "unknown"
    assert headline(found).startswith("Not settled")
    assert json.dumps(to_json(found), allow_nan=False)


class TestSimultaneous:
    def test_all_hold_at_once_as_often_as_said(self) -> None:
        rng, held = np.random.default_rng(0), 0
        for _ in range(400):
            data = rng.standard_normal((80, 4)) + rng.standard_normal((80, 1))
            drawn = rng.multinomial(80, np.full(80, 1 / 80), 300) @ data / 80
            ends = simultaneous(data.mean(0), drawn.T, 0.9)
            held += bool(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).all())
        # 0.9, less a hundredth or two for the bootstrap of 80; three standard errors are 0.045.
        assert 0.83 < held / 400 < 0.945

    def test_one_is_a_plain_interval_and_constants_have_no_width(self) -> None:
        drawn = np.random.default_rng(0).standard_normal((1, 100_000))
        assert simultaneous(np.zeros(1), drawn, 0.95)[0] == pytest.approx([-1.96, 1.96], abs=0.03)
        assert simultaneous(np.ones(1), np.ones((1, 100)), 0.95).tolist() == [[1, 1]]


class TestVerdict:
    def test_good_estimates_pay(self) -> None:
        found = good()
        assert found.answer == "pays"
        assert {gain.answer for gain in found.gains} == {"pays"}
        assert headline(found).startswith("Yes")
        assert any(line.startswith("Routing pays") for line in reasons(found))
        # Thresholding is no optimal rule: it gains less from estimates of 0 and 1 than from these.
        for name in ("routing", "pandora"):
            scenarios = [found.scenario(scenario) for scenario in ("now", "perfect ex-ante")]
            aucs = [scenario.auc[name].value for scenario in scenarios if scenario]
            assert found.mixing.value < aucs[0] < aucs[1]
            assert aucs[1] < found.oracle.value + 2 / 600  # see TestBetter

    def test_noise_does_not(self) -> None:
        found = useless()
        assert found.answer in ("undecided", "loses")
        assert headline(found).startswith("No")
        # What one knows nothing of is estimated by its mean: R2 0.
        np.testing.assert_allclose(found.ante.accuracy.r2.value, 0, atol=0.01)
        assert found.ante.differences.value == pytest.approx(0, abs=0.01)

    def test_sigma_and_independence_of_noise_are_found_right(self) -> None:
        moves = good().moves
        np.testing.assert_allclose(moves.ratio.value, 1, atol=0.06)  # 600 queries: 1 / sqrt(1200)
        table = world()
        of = simulated(table, 0.5, 0.2)
        measured = case(table, replace(of, sigma=2 * of.sigma), RESAMPLES)
        found = measured.diagnose(diagnosed_strategies("routing"), target=0.0)
        np.testing.assert_allclose(found.moves.ratio.value, 2, atol=0.12)
        assert any("standard deviation stated" in line for line in reasons(found))

    def test_shares_of_queries(self) -> None:
        table, found = world(), good()
        quality = table.quality[1::2]
        assert found.all_equal == np.mean([len(set(row)) == 1 for row in quality.tolist()])
        assert found.cheapest_suffices == np.mean([row[0] == max(row) for row in quality.tolist()])


class TestNeed:
    @pytest.mark.parametrize(
        ("name", "side"),
        [("thresholding", "post"), pytest.param("routing", "ante", marks=pytest.mark.slow)],
    )
    def test_what_is_needed_gives_what_was_wanted(self, name: str, side: Side) -> None:
        """Measure again on all queries, under fresh noise, copy after copy."""
        table = world()
        start = simulated(table, 1.5, 0.8)
        measured, (kind,) = case(table, start), diagnosed_strategies([name])
        assert side in sides(kind)
        need = measured.sampled().need(kind, side, 0.01)
        assert need.share is not None
        assert need.share > 0
        before = measured.frontier(kind, start).auc
        assert need.auc_now == pytest.approx(before, abs=1e-4)  # the same queries, repeated
        after = [
            measured.frontier(
                kind, improved(start, table, measured.fit_rows, side, need.share, seed=seed)
            ).auc
            for seed in range(100, 106)
        ]
        # Each moves by about 0.006 with its noise; so does, by a third of that, the search.
        assert np.mean(after) - before == pytest.approx(0.01, abs=0.006)
        assert need.r2_now < need.r2_needed < need.r2_now + 0.3
        assert f"{need.r2_needed:.2f}" in need_text(need)

    def test_out_of_reach_and_for_free(self) -> None:
        table, (routing,) = world(), diagnosed_strategies("routing")
        start = simulated(table, 0.3, 0.1)
        none = case(table, start).sampled().need(routing, "ante", 0.5)
        assert none.share is None
        assert "no ex-ante accuracy alone" in need_text(none)
        # Upside down: a fit turns them round, and no better estimator is wanted.
        bad = replace(start, quality_ante=1 - np.asarray(start.quality_ante))
        free = case(table, bad).sampled().need(routing, "ante", 0.01)
        assert free.share == 0
        assert free.r2_now < 0 < free.r2_refitted
        assert "refitting" in need_text(free)

    @pytest.mark.parametrize("side", ["ante", "post"])
    def test_a_need_below_what_there_is_is_no_rise(self, side: Any) -> None:
        need = Need(
            strategy="routing", side=side, share=0.02, r2_now=-0.029, r2_refitted=-0.1,
            r2_needed=-0.088, differences_now=-0.2, differences_needed=-0.1,
            r2_needed_by_model=np.array([-0.088]), auc_now=0.6, auc_reached=0.61,
            auc_checked=0.6, most=0.61,
        )  # fmt: skip
        assert "must rise" not in need_text(need)
        assert need_text(need).endswith("rise from -0.029 these queries cannot tell")
        risen = need_text(replace(need, r2_needed=0.2, differences_needed=-0.3))
        assert "must rise from -0.029 to 0.20" in risen
        assert "differences" not in risen

    def test_few_rows_get_no_intervals_and_a_note(self) -> None:
        notes: list[str] = []
        options = RunOptions(note=notes.append)
        found = diagnose(world(60), Noisy("low"), strategies="routing", target=0, options=options)
        assert found.resamples == 0
        assert found.answer == "unknown"
        assert "no intervals (resamples=0)" in notes[0]

    def test_large_tables_are_sampled(self) -> None:
        table = world(20_000)
        sample = case(table, simulated(table, 1, 1)).sampled()
        assert sample.table.n_queries == len(sample.fit_rows) + len(sample.evaluate_rows) == 2 << 13


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    words = ["synthesize", "world.arrow", "--queries", str(N), "--models", "3", "--seed", "1"]
    assert CliRunner().invoke(main, words).exit_code == 0
    return tmp_path


def test_the_command_writes_what_the_library_returns(here: Path) -> None:
    words = ["diagnose", "world.arrow", "--strategies", "routing,pandora"]
    words += ["--budgets", str(BUDGETS), "--resamples", str(RESAMPLES)]
    words += ["--target", "0", "--out", "out"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    names = ["diagnosis.json", "reliability.parquet", "report.html"]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    numbers = json.loads((here / "out/diagnosis.json").read_text())
    assert numbers["headline"] in " ".join(result.stdout.split())
    assert [gain["strategy"] for gain in numbers["gains"]] == ["routing", "pandora"]
    assert numbers["settings"]["estimates"] == "supplied"
    bins = pd.read_parquet(here / "out/reliability.parquet")
    assert bins["count"].sum() == 2 * 3 * numbers["n_evaluate"]
    found = cascjax.diagnose(
        cascjax.read_table("world.arrow"), strategies=["routing", "pandora"], budgets=BUDGETS,
        target=0, resamples=RESAMPLES,
    )  # fmt: skip
    auc = numbers["scenarios"][0]["auc"]["pandora"]["value"]
    assert found.scenarios[0].auc["pandora"].value == pytest.approx(auc, abs=1e-9)
    found.save("again")
    again = json.loads((here / "again/diagnosis.json").read_text())
    assert again["gains"] == numbers["gains"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--strategies", "oracle"], "looks at no estimates"),
        (["--strategies", "nonesuch"], "nonesuch"),
        (["--target", "-1"], "target"),
        (["--budgets", "0.1,0.2"], "--budgets"),
        (["--resamples", "3"], "resamples"),
        (["--confidence", "1.5"], "confidence"),
        (["--models", "0"], "at least 2"),
        (["--noise", "loud"], "noise"),
    ],
)
def test_the_command_refuses_in_one_line(here: Path, words: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["diagnose", "world.arrow", *words, "--out", "out"])
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("cascjax: ")
    assert says in last
    assert not (here / "out").exists()


def test_strategies_are_checked() -> None:
    with pytest.raises(CascjaxError, match="no strategy"):
        diagnosed_strategies([])
    with pytest.raises(CascjaxError, match="twice"):
        diagnosed_strategies(["routing", "routing"])


def test_a_page_obeys_no_name_and_loads_nothing() -> None:
    hostile = ("<script>alert(1)</script>", 'a & "b" {{ 7 * 7 }}', "x\x1b[31m")
    found = replace(good(), models=hostile, notes=("<b>prior</b>",))
    page = render(found, "cascjax diagnose '<i>'")
    assert "<script>alert" not in page
    assert not re.search(r'(src|href)="(?!data:text/csv)', page.split("<script")[0])
    assert "\x1b" not in page
    assert "&lt;b&gt;prior&lt;/b&gt;" in page
    assert bins_frame(found)["model"].iloc[0] == hostile[0]


def test_actions_are_ranked_by_their_gain() -> None:
    diagnosis = good()
    steps = actions(diagnosis)
    assert 1 < len(steps) <= 3
    gains = [float(gain.removeprefix("up to ").split()[0]) for _, gain, _ in steps]
    assert gains == sorted(gains, reverse=True)
    best = diagnosis.best
    assert (f"Deploy {best.strategy}.", f"{best.gain.value:+.3f}") in [
        (head, gain.split()[0]) for head, gain, _ in steps
    ]
    assert not any(head.startswith("Deploy") for head, *_ in actions(useless()))


def test_a_diagnosis_as_text_table_and_plot() -> None:
    diagnosis = good()
    assert repr(diagnosis).splitlines()[0] == headline(diagnosis)
    assert len(repr(diagnosis).splitlines()) == 2 + len(SHORT)
    assert "<table" in diagnosis._repr_html_()
    numbers = diagnosis.to_pandas()
    assert numbers["AUC"].is_monotonic_decreasing
    assert numbers["gain"].to_dict() == {g.strategy: g.gain.value for g in diagnosis.gains}
    assert len(diagnosis.plot().get_yticklabels()) == len(SHORT)
    drawn = plots.plot_reliability(diagnosis, diagnosis.models[0])
    assert drawn.get_title() == diagnosis.models[0]
    assert [c.get_label() for c in drawn.containers] == ["ex-ante", "post-hoc"]
    with pytest.raises(CascjaxError, match="unknown model 'x'"):
        plots.plot_reliability(diagnosis, "x")
    assert diagnosis == diagnosis
    assert diagnosis != useless()
    assert hash(diagnosis)


def test_reasons_in_words() -> None:
    diagnosis = good()
    assert "of those differences the ex-ante estimates explain" in reasons(diagnosis)[0]
    # Routing may pay though estimates do not explain differences; without intervals nothing is
    # called chance.
    unexplained, plain = (
        reasons(replace(diagnosis, ante=replace(diagnosis.ante, differences=span)))[0]
        for span in (Span(-0.002, -0.01, 0.004), Span(-0.002))
    )
    assert unexplained.startswith("Routing pays")
    assert "where the ex-ante estimates send queries to a more expensive model" in unexplained
    assert "R2 -0.002 [-0.010, 0.004], no more than chance" in unexplained
    assert "send queries" not in plain
    alone = replace(diagnosis, gains=diagnosis.gains[:1], both_at_once=None, needs=())
    for span, line in (
        (Span(0.1), "Pandora lies +0.100 from cascade-routing."),
        (Span(1e-6, -1e-5, 2e-5), "Pandora and cascade-routing have the same AUC, to the digits"),
    ):
        apart = replace(alone, combined=Apart("pandora", "cascade-routing", span))
        assert any(reason.startswith(line) for reason in reasons(apart))


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_explains_its_columns_and_keeps_to_its_width(width: int) -> None:
    names = ("WizardLM/WizardLM-13B-V1.2", "gpt-3.5-turbo-1106", "mistralai/mixtral-8x7b-chat")
    gain = replace(good().gains[0], strategy="cascade-routing")
    scenarios = tuple(
        replace(s, auc=s.auc | {gain.strategy: Span(0.1234)}) for s in good().scenarios
    )
    gains = (gain, *good().gains)
    console = Console(width=width, file=io.StringIO(), record=True)
    print_diagnosis(replace(good(), models=names, gains=gains, scenarios=scenarios), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text  # nothing is cut
    words = " ".join(text.split())
    for part in (
        "WizardLM-13B-V1.2", "gpt-3.5-turbo-1106", "mixtral-8x7b-chat",
        "refit, these estimates refitted by least squares on the fit split",
        "post, on estimates that know each answer's quality once it is seen",
        "ante, on estimates that know all qualities before any model runs",
    ):  # fmt: skip
        assert part in words
    rows = {line[0]: line for line in map(str.split, text.splitlines()) if line[3:]}
    for gain in gains:
        assert float(rows[gain.strategy][3]) == pytest.approx(
            gain.gain.high - gain.gain.value, abs=6e-5
        )
