"""The reasons of refusals, as sentences that tell an operator what happened and what to do."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from cpns.errors import Refused, Result

_BROKEN = "The two sides understand the protocol differently, or somebody between them changes messages: update both."
_FORGED = "A message does not prove who sent it: a wrong key, a copy of an older message, or somebody who lies."
_MOVING = "The device is on its way to another gateway, or is being brought back: try again in a moment."
_UPLINK = "The gateway's way to the server is away: look at `cpns explain` and at the gateway's log."
_BUSY = "The other side has too much under way: try again in a moment."
_MEANWHILE = "It changed meanwhile: look at it, then try again."
_RIGHTS = "Only its owner may do so, and a member as far as its rules say: ask the owner, or the operator."
_GROUP = "There is no such group, or this device is not in it: see `cpns pne group list`."
_NETWORK = "There is no such network here, or this device is not in it."
_CM = "This CM Device can't be used: the device asks its gateway for another one by itself."
_OF_ANOTHER_KIND = "This ID was provisioned for another kind of party: give this one a credential of its own."
_NOT_LET_IN = "It is not let in: `cpns explain` at the server says why, and what to do."
_UNIFORM = (Result.AUTHENTICATION_FAILED, Result.NO_ANSWER)
"""What one without a session is told, whatever the reason."""
_USED_UP = "Its numbers are used up: restart the device, and it takes new ones."

_SENTENCES: Final[Mapping[str, tuple[str, ...]]] = {
    _BROKEN: (
        *("acceptance_names_another_pne", "bad_entry", "bad_ephemeral_key", "broadcast_not_for_us"),
        *("broadcast_of_another_tree", "challenge_for_a_pne_not_asked_for", "challenge_names_another_gateway"),
        *("challenge_names_another_pn", "challenge_names_another_responder", "challenge_names_another_server"),
        *("challenge_names_another_server_or_no_pn", "ephemeral_key_does_not_fit_suite", "inner_code_does_not_fit"),
        *("kids_are_equal", "list_goes_back", "list_without_end", "local_eukey_missing_or_uncalled_for"),
        *("no_local_eukey", "no_path_of_the_tree", "no_such_resource", "no_use_for_that_broadcast", "not_a_body"),
        *("not_cbor", "not_deterministic", "outcome_for_a_pne_not_asked_for", "outcome_names_another_pn"),
        *("proof_for_a_pne_not_challenged", "proof_names_another_claimant", "proof_names_another_pne"),
        *("response_names_another_server", "signature_in_a_vouched_group", "trailing_bytes"),
        *("txn_in_use", "txn_not_outstanding", "txn_of_another_run", "unexpected_message"),
        *("no_run_under_way", "too_many_electives"),
        *("unknown_label", "unknown_type", "bad_push", "bad_reading", "bad_reading_body", "bad_reading_id", "bad_text"),
        *("bad_away", "bad_home"),
    ),
    _FORGED: (
        *("cm_device_id_does_not_verify", "group_message_is_not_signed", "older_key", "protection_invalid", "replay"),
        *("replayed_code", "sealed_data_does_not_open", "sender_is_not_registered", "sender_registered_no_key"),
        *("server_confirms_another_id", "unprotected_message_to_relay", "wrapped_key_does_not_open", "wrong_code"),
        *("wrong_code_of_the_gateway", "wrong_code_of_the_server", "wrong_signature", "no_such_assignment"),
        *("key_seed_used_twice", "no_session_protects_it", "not_the_member_that_it_names"),
    ),
    "Its EUKey is not the server's, or a gateway lied: check its key file, then the gateway.": ("wrong_hash",),
    _MOVING: (
        *("connection_gone", "held_without_answer", "not_established", "overtaken", "presence_refused"),
        *("sender_is_brought_back", "session_gone", "session_replaced", "sender_is_not_behind_that_gateway"),
        *("session_too_old", "session_used_up"),
    ),
    _UPLINK: ("held_too_long", "no_route", "no_uplink", "relayed_without_answer", "uplink_away"),
    _BUSY: (
        *("gave_way", "hop_session_stands", "no_free_kid", "server_full", "too_many_activations"),
        *("too_many_assignments", "too_many_relayed_requests", "too_much_held"),
    ),
    _MEANWHILE: ("left_meanwhile", "list_changes_all_the_time", "passed_on_meanwhile", "switched_meanwhile"),
    _RIGHTS: (
        *("may_not_approve", "may_not_delete", "may_not_expel", "may_not_invite", "may_not_pass_on"),
        *("may_not_release", "operators_alone"),
    ),
    _GROUP: ("no_such_group", "not_a_group_of_the_asker", "not_a_group_of_the_sender", "not_in_this_group"),
    _NETWORK: (
        *("no_such_pn", "not_a_pn_of_the_asker", "not_in_this_pn", "not_our_pn", "pn_of_another_gateway"),
        "pn_of_another_gateway_or_none",
    ),
    _CM: ("cm_device_revoked", "no_cm_device_key", "no_fresh_key", "not_its_cm_device", "not_the_next_generation"),
    _USED_UP: ("registrations_used_up", "sequence_numbers_used_up"),
    "No such device is provisioned: `cpns device add`, and put the credential into it.": ("unknown",),
    "It is admitted through another gateway alone: see `cpns device show`.": ("not_admitted_through_this_gateway",),
    "Its gateway named it twice in one SETUP Request: update that gateway.": ("bad_request",),
    "It has proven itself, and waits: `cpns device approve`, or `cpns device refuse`.": ("pending_approval",),
    "That network is closed: `cpns network invite`, or another policy for it.": ("not_on_the_member_list",),
    "Another owner is being asked: try again when it has answered.": ("a_candidate_is_asked",),
    "A device that has its own broadband can't bring in another: let that one go through a gateway.": (
        "a_cm_device_mediates_none",
    ),
    "It is in this group already.": ("already_in_this_group",),
    "It was asked lately, and is not asked again for a while: it may come by itself.": ("asked_lately",),
    "It is being given a CM Device already: try again in a moment.": ("assignment_under_way",),
    "It can't be reached now, and has to agree: try again when it is there.": ("away",),
    "It was put out or refused: its owner, or the operator, may invite it again.": ("barred",),
    "The operator admits this device through one gateway only, so it is given no CM Device.": ("bound_to_one_gateway",),
    "It was asked, and does not agree.": ("candidate_does_not_agree",),
    "Another device has the same key, and is in: give each a credential of its own.": ("cloned",),
    "That device does not become a gateway: run it as `cpns node run`.": ("does_not_become_a_gateway",),
    "One of the two gateways does not agree: see its log.": ("gateway_does_not_agree",),
    "The device's own gateway does not start: see its log.": ("gateway_does_not_start",),
    "The group's key has not come yet: try again in a moment.": ("group_key_has_not_come", "no_key_of_that_epoch"),
    "An owner does not put itself out: let it leave.": ("leave_instead",),
    "The list of this group is full: its owner takes names from it.": ("list_is_full",),
    "The member list of this network is full, until a device leaves it.": ("member_list_is_full",),
    "The group takes no messages of this device now: look at `cpns pne group list`.": ("message_is_not_taken",),
    "There is no such device, or it was revoked: see `cpns device list` at the server.": ("no_active_device",),
    "It did not answer in time: it does not run, the way to it is bad, or the two keys differ.": ("no_answer",),
    "No gateway was found on this network: start one, or give --gateway HOST.": ("no_gateway_found_on_the_pan",),
    "This device asks for no LocalEUKey, and nothing else protects an open PAN: mend that device.": (
        "no_local_eukey_on_open_pan",
    ),
    "Only another member can own it.": ("no_such_candidate",),
    "That device answers its gateway no more: look whether it runs, and is near.": ("out_of_reach",),
    "It runs a gateway with a key file of its own: only a CM Device gets keys from the server.": ("not_a_cm_device",),
    "None of that gateway's addresses answers: look at the gateway, and at the way to it.": ("no_way_there",),
    "It is given no CM Device: see `cpns cm list` at the server.": ("not_assigned", "server_refused_the_assignment"),
    "It goes through its own gateway already: that takes a gateway of somebody else.": (
        "not_behind_an_external_gateway",
    ),
    "That device is not behind this gateway: see `cpns explain`.": ("not_behind_this_gateway",),
    "That gateway is not in reach of this one: look at both, and try again.": ("not_in_reach",),
    "That group is closed: its owner may invite this device.": ("not_on_the_list",),
    "The text could not be printed, and was not taken: let somebody read its output.": ("not_printed",),
    "It does not wait for this network: see `cpns device pending`.": ("not_waiting",),
    "While the network has no owner, one device a minute is put out: try again in a minute.": (
        "one_a_minute_while_there_is_no_owner",
    ),
    "Not all processes of the server can be asked: see whether NATS runs.": ("other_processes_away",),
    "You own a group of that name already: take another one.": ("own_group_of_that_name",),
    "Only a member of the network can own it: let it in first.": ("owner_is_no_member",),
    "Gateway and device disagree whether the PAN is secure: start both with or without --secure-pan.": (
        "pan_mismatch",
    ),
    "Another reading has that ID already: restart the device.": ("reading_id_taken",),
    "The device answered, and does not take it.": ("refused_by_the_device",),
    "It has no session with the server: `cpns explain` says why.": ("no_session",),
    "It was revoked on purpose: to let it in again, provision it under a new ID.": ("revoked",),
    "The sender took a new key meanwhile: it says it again.": ("sender_has_registered_anew",),
    "That gateway is not connected: start it, then try again.": ("gateway_away",),
    "That gateway serves this network already.": ("serves_it_already",),
    "Devices are being let in at this moment: the gateway goes elsewhere a little later.": ("setup_runs",),
    "It proposes a suite under the server's --lowest-suite: start it with a higher --suite.": (
        "suite_refused",
        "suite_too_low",
        "unknown_suite",
    ),
    "It is in as many groups as a device may: let it leave one.": ("too_many_groups",),
    "That is longer than one message may be: say less at once.": ("too_long",),
    "It has as many open invitations as it may: some have to be answered first; each ends after a week.": (
        "too_many_invitations",
    ),
    "It sends more readings than its share: it sends them again later by itself.": (
        "too_many_readings",
        "too_much_in_readings",
    ),
    "It did so too often in a short time: try again in a minute.": ("too_often",),
}
"""Each sentence with the reasons that it is about; a test holds them together with the code."""

WORDS: Final[Mapping[str, str]] = {reason: sentence for sentence, reasons in _SENTENCES.items() for reason in reasons}

_RESULTS: Final[Mapping[Result, str]] = {
    Result.SUCCESS: "It is done.",
    Result.PARTLY: "It is done for some, and not for others.",
    Result.BAD_REQUEST: _BROKEN,
    Result.UNKNOWN_MESSAGE: "The other side does not know this yet: update it.",
    Result.MISSING_FIELD: _BROKEN,
    Result.NOT_AUTHENTICATED: _MOVING,
    Result.AUTHENTICATION_FAILED: _NOT_LET_IN,
    Result.NOT_ALLOWED: _RIGHTS,
    Result.KEY_EXPIRED: WORDS["group_key_has_not_come"],
    Result.PAN_MISMATCH: WORDS["pan_mismatch"],
    Result.SUITE_REFUSED: WORDS["suite_refused"],
    Result.UNKNOWN_PN: _NETWORK,
    Result.UNKNOWN_SG: _GROUP,
    Result.UNKNOWN_SERVICE: "There is no such service: look for it by another name.",
    Result.ALREADY_MEMBER: "It is in already.",
    Result.NOT_A_MEMBER: "It is not in there, so there is nothing to do.",
    Result.EXISTS: "That exists already: take another name.",
    Result.IN_PROGRESS: "That is under way already: try again in a moment.",
    Result.REFUSED_BY_USER: WORDS["candidate_does_not_agree"],
    Result.NO_ANSWER: WORDS["no_answer"],
    Result.OUT_OF_REACH: WORDS["away"],
    Result.MODE_NOT_SUPPORTED: WORDS["does_not_become_a_gateway"],
    Result.PENDING_APPROVAL: "It waits until the owner, or the operator, approves it.",
    Result.POLICY: "That is closed: its owner, or the operator, may invite this device.",
    Result.TOO_MANY: _BUSY,
    Result.SERVER_ERROR: "The other side failed: see its log, and report what it says.",
}


def _of_number(number: str) -> str:
    if int(number) in _UNIFORM:
        return _NOT_LET_IN
    return of_result(Result.told(int(number), Result.SERVER_ERROR))


def _of_name(name: str) -> str:
    return of_result(Result[name.upper()]) if name.upper() in Result.__members__ else _RESULTS[Result.SERVER_ERROR]


_FAMILIES: Final[tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]] = (
    (re.compile(r"(?:server_)?refused_with_(\d+)"), _of_number),
    (re.compile(r"peer_answered_(\w+)"), _of_name),
    (re.compile(r"unprotected_answer_(4\.01)"), lambda code: _MOVING),
    (re.compile(r"unprotected_answer_([\d.]+)"), lambda code: _UPLINK),
    (re.compile(r"(?:bad_value|missing)_label_(\d+)"), lambda label: _BROKEN),
    (re.compile(r"not_a_(pne|gateway|cm_device)"), lambda kind: _OF_ANOTHER_KIND),
)
"""The reasons that have a number or a name in them."""


def of_result(result: Result) -> str:
    """Return the sentence on a result of the wire."""
    return _RESULTS[result]


def meaning(reason: str) -> str | None:
    """Return the sentence on the reason of a refusal; None for one that is not known here."""
    if reason in WORDS:
        return WORDS[reason]
    for pattern, sentence in _FAMILIES:
        if (found := pattern.fullmatch(reason)) is not None:
            return sentence(found[1])
    return None


def sentence(error: Refused) -> str:
    """Return what people are told of a refusal: of its reason, or where that is not known here, of its result."""
    return meaning(error.reason) or of_result(error.result)
