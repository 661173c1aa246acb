"""The table of what is finite: how much of each thing one party may have, and all; what keeps it, and what shows it.

Bounds are names of constants, below `cpns`; a constant stands where the code uses it. Words stand where a thing has no
number of its own, as something else bounds it. A test resolves each name, and fails at any container that a class of
ours keeps and no row names: who adds one says here what bounds it.
"""

from typing import Final

from cpns.shares.held import ASKED, ENTITIES, HELD, MEMBERS, Bound
from cpns.shares.messages import MESSAGES

_TURNS: Final = "hostile/test_hostile_turns.py::"
_STORE: Final = "unit/test_store_turns.py::"
_GREEDY: Final = "hostile/test_greedy.py::"
_WHEREABOUTS: Final = "integration/test_whereabouts.py::"

REQUESTS: Final = (
    Bound(
        "connections of PN GWs and strangers",
        "transport.door.MAX_CONNECTIONS",
        "transport.door.MAX_CONNECTIONS",
        ("transport.uplink.Uplinks.connections",),
        ("hostile/test_hostile_connections.py::test_4096_silent_connections_keep_nobody_out",),
    ),
    Bound(
        "connections a second that are begun",
        "transport.door.CONNECTIONS",
        "that, for each host",
        (),
        ("hostile/test_hostile_connections.py::test_a_host_begins_so_many_connections_and_no_more",),
    ),
    Bound(
        "connections a second that are begun from a host that proved itself before",
        "transport.door.KNOWN_CONNECTIONS",
        "that, for each host",
        (),
        ("hostile/test_hostile_connections.py::test_a_host_begins_so_many_connections_and_no_more",),
    ),
    Bound(
        "TLS handshakes under way",
        "transport.door.MAX_HANDSHAKES",
        "transport.door.MAX_HANDSHAKES",
        ("transport.door.Door._connecting",),
        ("hostile/test_hostile_connections.py::test_handshakes_that_do_not_go_on_keep_nobody_out",),
    ),
    Bound(
        "requests that wait for their turn",
        "shares.bounds.REQUESTS.waiting.session",
        "shares.bounds.REQUESTS.waiting.total",
        (
            "shares.turns._Queue.waiting",
            "shares.turns._Uplink.queues",
            "shares.turns._Uplink.ring",
            "shares.turns.Turns._kept_back",
            "shares.turns.Turns._rings",
            "shares.turns.Turns._uplinks",
            "shares.turns._Lengths._of",
        ),
        (
            "unit/test_turns.py::test_nothing_is_lost_nothing_is_over_its_bound_and_order_is_kept",
            _TURNS + "test_all_that_may_run_and_wait_is_shared",
        ),
    ),
    Bound(
        "tasks: requests that are worked on",
        "shares.bounds.REQUESTS.running.session",
        "shares.bounds.REQUESTS.running.total",
        ("transport.intake.Intake._tasks",),
        (
            _TURNS + "test_requests_that_wait_hold_the_place_of_their_session_alone",
            _TURNS + "test_an_uplink_with_many_devices_is_one_party",
            _TURNS + "test_all_that_may_run_and_wait_is_shared",
        ),
    ),
    Bound(
        "the loop's time: units of work between two looks at the sockets",
        "shares.turns.QUANTUM",
        "transport.intake.UNITS_AT_ONCE",
        (),
        (_TURNS + "test_what_the_loop_does_between_two_looks_at_the_sockets_is_bounded",),
    ),
    Bound(
        "operations of the store in one transaction",
        "store.database.EACH",
        "store.database.MAX_GROUP",
        ("store.database.Database._queue", "store.database.Database._many"),
        (
            _STORE + "test_a_thousand_of_one_party_make_another_wait_for_two",
            _STORE + "test_a_thousand_of_one_party_wait_for_who_comes_later",
        ),
    ),
    Bound("requests of ours that wait for an answer", ASKED, ASKED, ("transport.waiting.Asked._waiting",)),
    Bound(
        "times that an M1 is sent again with an Echo",
        "pne.join.ECHOES",
        "that, for each M1 of ours that is under way",
        ("transport.waiting.Repeated._echoes", "transport.waiting.Repeated._withdraws"),
        ("hostile/test_hostile_sources.py::test_an_echo_that_another_asks_for_ends_nothing",),
    ),
    Bound(
        "answers to one request of ours",
        "those that come in before its reader has the loop",
        "those that come in before its reader has the loop",
        ("transport.waiting.Waiting._answers",),
    ),
    Bound(
        "names of peers, for whoever watches",
        "the newest",
        "transport.endpoint.MAX_NAMES",
        ("transport.endpoint.Endpoint._names",),
        (_TURNS + "test_names_of_strangers_are_forgotten",),
    ),
    Bound(
        "messages carried up from a PAN",
        "transport.relay.MAX_IN_FLIGHT",
        "transport.relay.MAX_UP",
        ("transport.relay.Relay._in_flight",),
        (_TURNS + "test_what_is_carried_up_is_shared",),
    ),
    Bound(
        "messages carried down to PNEs",
        "transport.relay.MAX_DOWN_EACH",
        "transport.relay.MAX_DOWN",
        (),
        (_GREEDY + "test_a_device_that_answers_nothing_fills_its_own_share_of_what_is_carried_down",),
    ),
    Bound(
        "bytes held while the uplink is away, 16 messages of one source",
        "transport.relay.MAX_HELD_BYTES",
        "transport.relay.MAX_HELD_BYTES",
        ("transport.relay.Relay._queues", "transport.relay.Relay._pumps"),
        (_GREEDY + "test_a_stranger_with_many_ports_fills_its_own_share_of_what_is_held",),
    ),
)

RUNS: Final = (
    Bound(
        "PNEs that wait for a SETUP, on one PAN",
        "as the others have: the newest of the host with most gives way",
        "gateway.queue.MAX_WAITING",
        ("gateway.queue.Queue._waiting", "gateway.queue.Queue._hosts", "gateway.setup.Setup._entries"),
        ("unit/test_setup_queue.py::test_full_the_newest_of_the_host_with_most_gives_way",),
    ),
    Bound(
        "SETUP runs of a PN GW, of 64 PNEs at most",
        "gateway.queue.HOST_BATCHES",
        "the lanes of `gateway.queue.Lane`: 25 on one PAN",
        (
            "gateway.queue.Queue._running",
            "gateway.queue.Queue._in_flight",
            "gateway.queue.Queue._slow_again",
            "gateway.setup.Setup._runs",
            "gateway.setup._Run.links",
            "gateway.setup._Run.assigned",
            "gateway.setup.Setup._queue",
        ),
        ("unit/test_setup_queue.py::test_its_promises_hold_whatever_comes",),
    ),
    Bound(
        "hop runs at a PN GW",
        "gateway.hop.OWN_RUNS",
        "gateway.hop.STRANGERS_RUNS",
        ("gateway.hop.Hop._own",),
        (_TURNS + "test_hop_runs_of_strangers_are_shared_by_hosts",),
    ),
    Bound(
        "places of a room",
        "as the others have: the newest of who holds most gives way",
        "as many as the room was made with",
        ("shares.room._Part._groups", "shares.room._Part._shares", "shares.room._Part._ranks"),
        ("unit/test_room.py::test_it_does_as_the_plain_model_does",),
    ),
    Bound(
        "groups whose silence is remembered",
        "one",
        "shares.silence.MAX_SILENT",
        ("shares.silence.Silence._groups",),
        ("unit/test_room.py::test_what_it_remembers_of_strangers_is_bounded",),
    ),
    Bound(
        "under load, M1s on a PAN that do not show where they come from: SETUPs that wait",
        "as the others have: the newest of the host with most gives way",
        "gateway.queue.UNSHOWN",
        (),
        ("unit/test_setup_queue.py::test_who_shows_no_address_shares_those_places_by_host_too",),
    ),
    Bound(
        "the same: ACTIVATE runs",
        "likewise",
        "gateway.hop.UNSHOWN_RUNS",
        (),
        ("hostile/test_hostile_pan_floods.py::test_a_stranger_is_told_the_same_whatever_id_it_names",),
    ),
    Bound(
        "PNEs in reach of a PAN that are no members",
        "as the others have: the host with most loses its oldest",
        "gateway.reach.MAX_KNOWN",
        ("gateway.reach.Reach._heard", "gateway.reach.Reach._hosts"),
        (_GREEDY + "test_a_device_that_waits_stays_in_reach_whatever_a_stranger_calls_itself",),
    ),
    Bound(
        "questions whether a member is where something came from in its name",
        "one, and one a second: gateway.whereabouts.PAUSE",
        MEMBERS,
        ("gateway.whereabouts.Whereabouts._asking",),
        (_WHEREABOUTS + "test_who_repeats_what_a_member_said_is_asked_once_a_second_and_moves_nobody",),
    ),
    Bound(
        "addresses that are told that their PN GW is back, as somebody there has a session with the server",
        "one, and one a second: gateway.whereabouts.PAUSE",
        "gateway.whereabouts.MAX_UNKNOWN",
        ("gateway.whereabouts.Whereabouts._unknown",),
        (_WHEREABOUTS + "test_how_many_unknown_addresses_are_told_at_once",),
    ),
    Bound(
        "SETUPs of a PAN that ask others along",
        "gateway.invite.MAX_ROUNDS_EACH",
        "gateway.invite.MAX_ROUNDS",
        (),
        (_GREEDY + "test_a_gateway_bounds_the_invitations_under_way",),
    ),
    Bound(
        "invitations under way on a PAN",
        "gateway.invite.MAX_INVITATIONS_EACH",
        "gateway.invite.MAX_INVITATIONS",
        ("gateway.invite.Invitations._asked",),
        (_GREEDY + "test_a_gateway_bounds_the_invitations_under_way",),
    ),
    Bound(
        "INVITE Requests under way at the server",
        "server.networks.actions.MAX_INVITATIONS_EACH",
        "server.networks.actions.MAX_INVITATIONS",
        (),
        (_GREEDY + "test_who_invites_names_that_stay_silent_holds_up_nobody",),
    ),
    Bound(
        "versions since which a PN GW serves its PNs, and that it was told of, at a process",
        "server.peers.gateways.REMEMBERED_VERSIONS",
        "as many for each PN GW that is connected",
        ("server.peers.peer.GatewayPeer.served_since", "server.peers.peer.GatewayPeer.told"),
    ),
    Bound(
        "CM Devices that a PN GW assigns at once",
        "server.changing.devices.MAX_ASSIGNMENTS",
        "as many for each PN GW that is connected",
        ("server.peers.peer.GatewayPeer.assignments",),
        ("hostile/test_hostile_cm_ids.py::test_many_assignments_at_once_are_no_more_than_one_after_the_other",),
    ),
    Bound(
        "codes of CM Devices that were used up",
        "the newest",
        "server.changing.devices.REMEMBERED_CODES",
        ("server.changing.devices.CmDevices._codes",),
        ("hostile/test_hostile_cm.py::test_hundreds_of_activations_of_one_device",),
    ),
    Bound(
        "sessions of CM Devices that wait for their first message",
        "one for each connection, 60 s; of a host: the newest of the host with most gives way",
        "server.peers.expected.PENDING",
        ("server.peers.expected.Expected._waiting",),
    ),
    Bound(
        "ACTIVATE runs of strangers at the server",
        "one for each connection, 3 s; of a host: the newest of the host with most gives way",
        "server.access.admission.ACTIVATE_RUNS",
        ("server.access.admission.Admission._open",),
        ("hostile/test_hostile_floods.py::test_activations_without_a_proof_keep_nobody_out",),
    ),
    Bound(
        "ACTIVATE Requests a second, and at once, that lead to no proof",
        "server.access.admission.HOST_PACE",
        "server.access.admission.COMMON_PACE",
        (),
        ("hostile/test_hostile_floods.py::test_activations_without_a_proof_keep_nobody_out",),
    ),
    Bound(
        "PNEs in SETUP runs at the server",
        "as the others have: the newest run of the PN GW with most gives way",
        "server.access.admission.MAX_PNES",
        (),
        ("hostile/test_hostile_floods.py::test_a_gateway_that_never_answers_for_its_pnes_spends_its_own_share",),
    ),
    Bound(
        "PNEs a second, and at once, that a PN GW brings and that prove nothing",
        "server.access.admission.UNPROVEN_PNES",
        "that, for each PN GW",
        (),
        ("hostile/test_hostile_floods.py::test_a_gateway_that_makes_up_pnes_spends_its_own_share",),
    ),
    Bound(
        "hosts that are known",
        "service.hosts.HOSTS_OF_ENTITY",
        "service.hosts.MAX_HOSTS",
        ("service.hosts.KnownHosts._hosts",),
        ("unit/test_hosts.py::test_one_entity_does_not_fill_the_list", "unit/test_hosts.py::test_the_newest_are_kept"),
    ),
    Bound("PNEs that are assigned a CM Device at a PN GW", "one", MEMBERS, ("gateway.cm.Mediator._under_way",)),
    Bound(
        "answers to one search for a PN GW",
        "pne.candidates.MAX_OF_HOST",
        "pne.candidates.MAX_CANDIDATES",
        ("pne.candidates.Candidates._failures", "pne.candidates.Candidates._waiting"),
        ("unit/test_candidates.py::test_one_host_has_few_places_and_all_are_bounded",),
    ),
    Bound(
        "addresses of one name that a PNE tries",
        "one name at a time",
        "pne.candidates.MAX_ADDRESSES",
        ("pne.candidates.Named._failed",),
        ("unit/test_candidates.py::test_a_name_with_many_addresses_is_bounded",),
    ),
)

TRAFFIC: Final = (
    Bound(
        "readings a second of a PNE, and at once",
        "server.config.ServerConfig.readings_rate",
        "what the server bears",
        (),
        ("integration/test_readings_share.py::test_a_new_device_waits_as_long_as_it_is_told",),
    ),
    Bound(
        "bytes a day of the readings of a PNE",
        "server.config.ServerConfig.readings_volume",
        "that, for each device that is provisioned",
        (),
        ("integration/test_readings_share.py::test_a_flood_of_a_day_is_bounded_by_rate_and_volume",),
    ),
    Bound(
        "parties whose rate is counted",
        "one",
        "shares.rate.MAX_PARTIES",
        ("shares.rate.RateLimit._parties",),
    ),
    Bound(
        "lines of log and audit",
        "shares.noted.PARTY_LINES",
        "shares.noted.STRANGERS_LINES",
        ("shares.noted.Noted._parties", "shares.noted.Noted._unwritten", "shares.noted._Party.topics"),
        (
            "unit/test_noted.py::test_strangers_share_a_pace_and_take_nothing_of_who_is_proven",
            "hostile/test_hostile_lines.py::test_a_device_that_says_another_long_status_each_time",
        ),
    ),
    Bound(
        "refusals that are written to the audit log",
        "service.refusals.PACE",
        "service.refusals.STRANGERS_PACE",
        ("service.refusals.Refusals._waiting",),
        ("unit/test_bounds.py::test_refusals_of_one_gateway_bury_those_of_no_other",),
    ),
    Bound(
        "entities that went over a share, for the operator",
        "one",
        "shares.exceeded.MAX_PARTIES",
        ("shares.exceeded.Exceeded._newest",),
        ("unit/test_bounds.py::test_who_went_over_a_share_is_remembered_within_bounds",),
    ),
    Bound(
        "texts that are kept for a PNE",
        "store.waiting_queries.MAX_PUSHES",
        ENTITIES,
        (
            "service.deliveries.Deliveries._awaited",
            "service.deliveries.Deliveries._delivering",
            "service.deliveries.Deliveries._heard_again",
        ),
        ("integration/test_roaming.py::test_texts_that_wait_are_bounded",),
    ),
    Bound(
        "messages of groups that are kept for a PNE",
        "store.message_queries.MAX_OWED",
        ENTITIES,
        (),
        ("unit/test_message_store.py::test_the_oldest_make_room",),
    ),
    Bound(
        "strangers that are told of to the operator",
        "one row",
        "store.waiting_queries.MAX_STRANGERS",
        (),
        ("unit/test_network_store.py::test_strangers_are_bounded_and_the_oldest_is_forgotten",),
    ),
    Bound(
        "texts that a PNE remembers to know a repetition",
        "the newest",
        "pne.inbox.REMEMBERED",
        ("pne.inbox.Inbox._answers",),
        (),
    ),
)

_EPOCHS: Final = "unit/test_epoch_rules.py::"

ROWS: Final = (
    Bound(
        "open invitations: 64 of one list, for 7 days",
        "domain.invitation.OPEN_OF_OWNER",
        ENTITIES,
        (),
        (
            "unit/test_invitations.py::test_a_group_has_so_many_open_invitations_and_so_has_its_owner",
            "integration/test_group_epochs.py::test_who_invites_names_without_end_is_told_to_stop",
        ),
    ),
    Bound(
        "groups that a PNE is in, its own among them",
        "domain.group.MAX_GROUPS",
        ENTITIES,
        (),
        (_EPOCHS + "test_how_many_groups_one_makes_and_how_fast",),
    ),
    Bound(
        "groups that a PNE makes in a minute",
        "domain.pace.CREATIONS.times",
        ENTITIES,
        (),
        (_EPOCHS + "test_how_many_groups_one_makes_and_how_fast",),
    ),
    Bound(
        "times that a PNE joins a group in a minute",
        "domain.pace.JOINS.times",
        ENTITIES,
        (),
        (_EPOCHS + "test_who_joins_again_and_again_waits_and_may_always_leave",),
    ),
    Bound(
        "questions that one device causes to another in a minute",
        "domain.pace.ASKS.times",
        "domain.pace.ASKED.times",
        (),
        ("integration/test_group_asking.py::test_one_asker_and_all_askers_have_a_pace",),
    ),
    Bound(
        "times in an hour that a device is asked which said no",
        "domain.pace.DECLINED.times",
        ENTITIES,
        (),
        ("integration/test_group_asking.py::test_who_says_no_is_not_asked_again_and_may_come_by_itself",),
    ),
    Bound(
        "epochs of a group, besides those that put somebody out",
        "one for all that come and leave in that time",
        "domain.epoch.GATHER_SECONDS",
        ("server.groups.epochs.GroupEpochs._waits",),
        ("integration/test_group_epochs.py::test_who_comes_within_a_second_comes_with_one_epoch",),
    ),
    Bound(
        "names on the list of a group",
        "one",
        "domain.group.MAX_LISTED",
        (),
        ("unit/test_group_rules.py::test_a_list_has_an_end",),
    ),
    Bound(
        "names on the list of a network",
        "one",
        "store.network_queries.MAX_LISTED",
        (),
        ("unit/test_network_admin.py::test_a_full_member_list_is_told",),
    ),
    Bound("groups that one part of a discovery looks into", "one part at a time", "store.server_store.LOOKED_INTO"),
    Bound(
        "bytes of a page",
        "one page for each request",
        "wire.registry.PAGE_BYTES",
        (),
        ("integration/test_pages.py::test_members_with_the_longest_names_and_their_keys",),
    ),
    Bound(
        "pages that one list may have, for who reads it",
        "service.pages.MAX_PAGES",
        "that, for each list",
        (),
        ("unit/test_pages.py::test_a_list_as_long_as_may_be",),
    ),
)

TABLE: Final = (*REQUESTS, *MESSAGES, *RUNS, *TRAFFIC, *ROWS, *HELD)
