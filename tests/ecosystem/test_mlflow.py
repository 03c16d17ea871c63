from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

import pyflux_transfer as pft
from tests.ecosystem.runs import run

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("options", [{}, {"epochs": 3, "lr": 1e-2}], ids=["recipe", "steps"])
def test_its_own_client_finds_everything(options: dict[str, float], tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    done = run(tmp_path, f"mlflow:{store}", **options)
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("pyflux-transfer")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.info.run_name.startswith("tiny-")
    assert found.data.params["architecture"] == "tiny"
    assert found.data.params["way"] == ("steps" if options else "recipe")
    expected = done.estimate.accuracy if done.estimate else done.best.valid_accuracy
    assert found.data.metrics["accuracy"] == pytest.approx(expected)
    history = client.get_metric_history(found.info.run_id, "train_loss")
    losses = {record.epoch: record.train_loss for record in done.records}
    assert {point.step: point.value for point in history} == pytest.approx(losses)
    names = sorted(item.path for item in client.list_artifacts(found.info.run_id))
    assert names == ["confusion.png", "log.txt", "model.safetensors"]
    bundle = client.download_artifacts(found.info.run_id, "model.safetensors", str(tmp_path))
    assert pft.load(bundle, engine="fake").classes == ("blue", "green", "red")


def test_it_joins_the_run_that_is_active_and_leaves_it_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "insects")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    with mlflow.start_run() as active:
        run(tmp_path, "mlflow", quality="head")
        assert mlflow.active_run().info.run_id == active.info.run_id
        mlflow.log_metric("mine", 1)
    metrics = mlflow.MlflowClient().get_run(active.info.run_id).data.metrics
    assert {"mine", "accuracy"} <= set(metrics)
    run(tmp_path, "mlflow", quality="head")
    place = mlflow.MlflowClient().get_experiment_by_name("insects").experiment_id
    assert len(mlflow.MlflowClient().search_runs([place])) == 2


def test_a_store_that_is_lost_on_the_way_does_not_lose_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise mlflow.exceptions.MlflowException("the server is gone")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", gone)
    with pytest.warns(RuntimeWarning, match="MLflow has failed .*: the server is gone"):
        assert run(tmp_path, f"mlflow:sqlite:///{tmp_path / 'runs.db'}", quality="head").estimate


def test_an_address_that_means_nothing_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(pft.InputError, match="MLflow cannot be logged to"):
        run(tmp_path, "mlflow:nonsense://x")
