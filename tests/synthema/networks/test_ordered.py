"""What a network makes of the answers that its carrier brings, late, of other sites, or none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from network_members import Researcher, small_study

from synthema.errors import SiteFailed, SiteRefused
from synthema.networks.base import run_job
from synthema.networks.ordered import Enough, OrderedNetwork
from synthema.networks.orders import Answer, Order

MILAN_WENT = Answer(site="vienna", state="failed", blamed="milan", step="marginals", explanation="it went away")
NO_NODE = Answer(site="", state="down", explanation="its node reports error 5")


class Says:
    """Sites that accept, and answer a run with what they are told to say; and how long the rest is waited for."""

    def __init__(self, ending: Mapping[str, Answer], *, accepts: bool = True) -> None:
        self.ending, self.accepts = ending, accepts
        self.asked: list[str] = []
        self.more: float | None = None

    def exchange(self, orders: Mapping[str, bytes], *, within: float, enough: Enough) -> Mapping[str, bytes]:
        assert within > 0
        what = Order.decode(next(iter(orders.values())))[0].what
        self.asked.append(what)
        said = {site: Answer(site=site, state="accepted") for site in orders} if what == "offer" else self.ending
        if what == "offer" and not self.accepts:
            said["madrid"] = Answer(site="madrid", state="waiting")
        answers = {site: answer.encode() for site, answer in said.items() if site in orders}
        self.more = enough(answers)
        return answers


def run(says: Says) -> None:
    run_job(OrderedNetwork(says), Researcher().submission(small_study()), offer_within=5.0, within=5.0)


def test_what_others_say_of_a_site_says_more_than_its_nodes_silence() -> None:
    says = Says({"milan": NO_NODE, "vienna": MILAN_WENT})
    with pytest.raises(SiteFailed) as failed:
        run(says)
    assert (failed.value.site, failed.value.error) == ("milan", "it went away")
    assert says.more == 3.0


def test_a_node_that_brings_no_answer_is_a_failure_of_its_site() -> None:
    says = Says({"milan": NO_NODE})
    with pytest.raises(SiteFailed) as failed:
        run(says)
    assert (failed.value.site, failed.value.error) == ("milan", "its node reports error 5")
    # The others know more, and are waited for.
    assert says.more == 15.0


def test_sites_that_say_nothing_of_the_end_are_named() -> None:
    done = {site: Answer(site=site, state="done") for site in ("vienna", "madrid")}
    with pytest.raises(SiteFailed, match="did not say how the job ended") as failed:
        run(Says(done))
    assert failed.value.site == "milan"


def test_an_answer_to_another_question_is_no_acceptance() -> None:
    says = Says({}, accepts=False)
    with pytest.raises(SiteRefused) as refused:
        run(says)
    assert (refused.value.site, refused.value.reason) == ("madrid", "waiting")
    assert says.asked == ["offer", "cancel"]
    assert Answer(site="vienna", state="done").decision().state == "refused"
    assert Answer(site="vienna", state="accepted").ending().state == "failed"
