"""Which keys of a LiteLLM file are known, and what becomes of them.

A key is *read* (it has its effect here), *later* (accepted, not yet in effect), *idle* (accepted, has no
effect by design, with the reason) or unknown (a warning with the nearest known key). Every one of the last
three is told once per file. Facts are those of LiteLLM 1.80, with the keys that only later versions have.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetgate.litellm_config.cost_keys import is_price
from fleetgate.litellm_config.source import IGNORED, NOT_YET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetgate.litellm_config.source import Section


@dataclass(frozen=True, slots=True)
class Known:
    """The keys of one map. `open`: other keys are free, and forwarded or kept."""

    read: frozenset[str]
    later: frozenset[str]
    idle: frozenset[str] = frozenset()
    open: bool = False

    @property
    def all(self) -> frozenset[str]:
        return self.read | self.later | self.idle


def words(*texts: str) -> frozenset[str]:
    """A set of words, written with spaces between them."""
    return frozenset(word for text in texts for word in text.split())


_ROUTER_TOO: Final = """
    num_retries allowed_fails cooldown_time default_fallbacks fallbacks context_window_fallbacks
    content_policy_fallbacks model_group_alias"""

TOP: Final = Known(
    words(
        "model_list litellm_settings router_settings general_settings environment_variables include"
        " credential_list"
    ),
    words(
        "callback_settings guardrails prompts mcp_servers mcp_tools agent_list vector_store_registry"
        " search_tools assistant_settings finetune_settings files_settings default_vertex_config"
    ),
)

PARAMS: Final = Known(
    words(
        "model api_key api_base base_url custom_llm_provider litellm_credential_name timeout stream_timeout"
        " num_retries rpm tpm max_parallel_requests weight order cooldown_time max_budget budget_duration",
        "itpm otpm rpd tpd daily_reset_time",
    ),
    words(
        "api_version organization tags region_name mock_response mock_timeout"
        " mock_delay drop_params additional_drop_params allowed_openai_params modify_params"
        " use_in_pass_through merge_reasoning_content_in_choices use_litellm_proxy extra_headers headers"
        " extra_body input_cost_per_pixel output_cost_per_pixel output_cost_per_reasoning_token",
        "timeout_by_service_tier tag_regex retry_policy routing_strategy"
        " kubernetes_pod_discovery silent_model keepalive_seconds",
    ),
    words("max_retries configurable_clientside_auth_params"),
    open=True,
)

INFO: Final = Known(
    words("id mode max_input_tokens base_model"),
    words(
        "tier team_id team_public_model_name access_groups disable_background_health_check health_check_model"
        " supported_environments allowed_fails allowed_fails_policy cooldown_time"
    ),
)
"""other keys here are free and kept by LiteLLM, so none is unknown"""

ROUTER: Final = Known(
    words(
        _ROUTER_TOO,
        "routing_strategy routing_strategy_args max_fallbacks timeout stream_timeout retry_policy"
        " model_group_retry_policy default_litellm_params enable_pre_call_checks"
        " default_max_parallel_requests disable_cooldowns provider_budget_config",
    ),
    words(
        "retry_after enable_tag_filtering tag_filtering_match_any optional_pre_call_checks"
        " default_priority cache_responses cache_kwargs caching_groups redis_url"
        " redis_host redis_port redis_password redis_db routing_groups"
        " enable_mid_stream_fallback_continuation fallback_on_unsupported_params enable_weighted_failover"
        " session_affinity_repin_on_failover plugins alerting_config custom_routing_strategy"
    ),
    words(
        "allowed_fails_policy polling_interval client_ttl set_verbose debug_level"
        " enable_health_check_routing health_check_staleness_threshold"
        " health_check_ignore_transient_errors background_health_check_model_groups"
    ),
)

SETTINGS: Final = Known(
    words(_ROUTER_TOO, "request_timeout cache cache_params max_budget budget_duration"),
    words(
        "success_callback failure_callback callbacks service_callback"
        " audit_log_callbacks max_internal_user_budget"
        " internal_user_budget_duration max_end_user_budget max_end_user_budget_id max_ui_session_budget"
        " default_internal_user_params default_team_params default_key_generate_params"
        " default_team_settings upperbound_key_generate_params key_generation_settings tag_budget_config"
        " priority_reservation drop_params modify_params turn_off_message_logging"
        " redact_user_api_key_info prometheus_initialize_budget_metrics prometheus_metrics_config"
        " custom_prometheus_metadata_labels custom_prometheus_tags disable_end_user_cost_tracking"
        " disable_end_user_cost_tracking_prometheus_only require_auth_for_metrics_endpoint force_ipv4"
        " ssl_verify ssl_certificate custom_provider_map model_group_settings public_model_groups"
        " forward_client_headers_to_llm_api timezone enable_redis_auth_cache network_mock"
        " budget_exceeded_status_code prometheus_deployment_and_latency_caller_identity"
    ),
    words("telemetry set_verbose json_logs"),
)

GENERAL: Final = Known(
    words(
        "master_key allowed_ips max_request_size_mb global_max_parallel_requests background_health_checks"
        " health_check_interval litellm_compat"
    ),
    words(
        "database_url store_model_in_db store_prompts_in_spend_logs disable_spend_logs disable_error_logs"
        " disable_spend_updates max_parallel_requests health_check_details use_shared_health_check alerting"
        " alerting_threshold alert_types alert_to_webhook_url alerting_args allowed_routes public_routes"
        " enforced_params enable_jwt_auth litellm_jwtauth admin_only_routes max_response_size_mb"
        " litellm_key_header_name user_header_name user_header_mappings pass_through_endpoints"
        " ui_access_mode completion_model embedding_model image_generation_model moderation_model"
        " infer_model_from_keys maximum_spend_logs_retention_period maximum_spend_logs_retention_interval"
        " supported_db_objects key_management_system key_management_settings",
        "max_in_flight_requests_per_worker max_queued_requests_per_worker admission_queue_timeout_seconds"
        " health_check_concurrency background_health_check_model_groups model_list_healthy_only"
        " return_wildcard_routes enforce_fallback_model_access disable_fallbacks_on_per_model_rate_limits"
        " fail_closed_rate_limit_enforcement include_call_id_in_error_body self_serve_budget_policy"
        " max_failed_login_attempts_per_source maximum_spend_logs_size use_spend_logs_partitioning"
        " trusted_proxy_ranges",
    ),
    words(
        "database_connection_pool_limit database_connection_timeout database_connection_pool_timeout"
        " proxy_batch_write_at proxy_budget_rescheduler_min_time proxy_budget_rescheduler_max_time"
        " custom_auth custom_key_generate allow_requests_on_db_unavailable user_api_key_cache_ttl"
        " cancel_on_disconnect disable_budget_reservation proxy_config_reload_interval_seconds"
        " use_redis_transaction_buffer dangerously_permit_weak_or_unset_master_key"
    ),
)

WHY_IDLE: Final[Mapping[str, str]] = {
    "max_retries": "there is one layer of retries, the gateway's own",
    "configurable_clientside_auth_params": "a request never chooses a host or a credential",
    "allowed_fails_policy": "the effect of each failure class is fixed: docs/reference/failures.md",
    "custom_auth": "code is never imported from a configuration",
    "custom_key_generate": "code is never imported from a configuration",
    "telemetry": "there is none",
    "cancel_on_disconnect": "a caller who leaves always cancels the upstream",
    "user_api_key_cache_ttl": "keys are cached by fixed rules",
    "allow_requests_on_db_unavailable": "what happens without the database is fixed",
}
NO_EFFECT: Final = "there is nothing here that it would change"

MEANS: Final[Mapping[str, str]] = {
    "allowed_fails": "failures in a row, counted once for the whole gateway; more than this many cool",
    "order": "levels are always a ladder, with or without enable_pre_call_checks",
    "timeout": "the limit to the first token, also of answers that are not streamed",
    "stream_timeout": "the limit to the first token",
    "request_timeout": "the limit to the first token, also of answers that are not streamed",
    "rpm": "a hard limit, beside its use as a weight",
    "tpm": "a hard limit, beside its use as a weight",
    "max_parallel_requests": "of a deployment: over the whole gateway, streams included",
    "max_budget": "it bounds what costs money, for every key; free models go on",
    "global_max_parallel_requests": "it is a limit, enforced over the whole gateway",
}
"""Keys whose documented meaning holds here and differs from what LiteLLM does; told once each."""


def check(section: Section, known: Known) -> None:
    """Tells of every key of a map that has no effect, another effect, or no meaning."""
    for key, (value, path) in section.held.items():
        if key in known.read:
            if key in MEANS and value is not None:
                section.source.once(("means", key), "note", path, f"taken as documented: {MEANS[key]}")
        elif key in known.later:
            if value not in (None, False, [], {}):
                section.source.once(("later", key), "note", path, NOT_YET, IGNORED)
        elif key in known.idle:
            section.source.once(("idle", key), "note", path, "has no effect", WHY_IDLE.get(key, NO_EFFECT))
        elif known is not INFO and not (known is PARAMS and is_price(key)):
            _unknown(section, key, known)


def _unknown(section: Section, key: str, known: Known) -> None:
    near, path = _near(key, known), section.at(key)
    if near:
        section.source.say("warning", path, f"unknown key {key}", f"did you mean {near[0]}?")
    elif not known.open:
        section.source.say("warning", path, f"unknown key {key}", IGNORED)


def _near(key: str, known: Known) -> list[str]:
    """The known key that was meant. Where other keys are free, it must be very like it."""
    if known.open and "_cost_per_" in key:
        return []
    return difflib.get_close_matches(key, sorted(known.all), n=1, cutoff=0.85 if known.open else 0.6)


def check_params(section: Section) -> None:
    """`litellm_params` forward what is not theirs; that has no effect yet."""
    check(section, PARAMS)
    for key in section.held:
        if key not in PARAMS.all and not is_price(key) and not _near(key, PARAMS):
            hint = "it is not sent upstream"
            section.source.once(("forward", key), "note", section.at(key), f"{key} is {NOT_YET}", hint)
