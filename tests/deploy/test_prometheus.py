"""The configuration of Prometheus: it scrapes what docs/integrations.md starts, and loads the alerts."""

from typing import Any, Final

import yaml

from tests.deploy.expressions import DEPLOY, alerts
from tests.docs.recipes import sections

CONFIGURATION: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())


def test_it_scrapes_the_address_that_the_recipe_gives_the_service() -> None:
    (job,) = CONFIGURATION["scrape_configs"]
    ((target,),) = (each["targets"] for each in job["static_configs"])
    (commands,) = sections("integrations.md", ("sh",))["Prometheus"]

    assert f"IDENTITY_METRICS_LISTEN={target} make run" in commands.code
    assert "--config.file=deploy/prometheus/prometheus.yml" in commands.code


def test_its_rules_are_there_and_are_about_its_job() -> None:
    (job,) = CONFIGURATION["scrape_configs"]

    assert [(DEPLOY / "prometheus" / name).is_file() for name in CONFIGURATION["rule_files"]] == [True]
    (down,) = (rule for rule in alerts() if rule["alert"] == "IdentityDown")
    assert down["expr"] == f'up{{job="{job["job_name"]}"}} == 0'
