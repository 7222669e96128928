"""What a site decides before anything is counted: its policy, its ledger's history, and what it tells of a refusal.

refusals       the fixed list of reasons, and the sentences an operator may choose from
terms          who may ask, what for, with which algorithm, when, how often, and for how much
history        who was charged for what, read from the ledger alone
families       which exact releases are one and the same, and which are a difference of two
rules          every rule of a policy that a study breaks
policy_file    the `[policy]` section of a site's TOML
datashield     the filters of DataSHIELD as a ready policy
"""
