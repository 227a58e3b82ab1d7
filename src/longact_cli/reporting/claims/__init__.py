"""The claims of the paper and the requests of its referees, and what a store says about each."""

from longact_cli.reporting.claims.declared import Claim, declared_claims
from longact_cli.reporting.claims.findings import Finding, judge_claims

__all__ = ["Claim", "Finding", "declared_claims", "judge_claims"]
