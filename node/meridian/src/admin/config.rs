//! `GET /api/v1/config`: the config that this node works with. Files are named, their content is not shown: keys and
//! certificates stay where they are.

use std::sync::Arc;

use axum::{Json, extract::State};
use region_config::{CacheMode, Config, OriginProtocol, PathPattern, QueryNames, Route, SiteSteering};
use serde_json::{Value, json};

use super::{Context, problem::Problem, sites::host, status};

/// The config that this node works with, without secrets.
#[utoipa::path(get, path = "/api/v1/config", operation_id = "config", responses(
    (status = 200, description = "Node, jurisdictions, regions, zones, tenants and sites.", body = Object),
    (status = 401, body = Problem),
))]
pub(super) async fn config(State(context): State<Arc<Context>>) -> Json<Value> {
    Json(shown(&context.config.load()))
}

fn shown(config: &Config) -> Value {
    json!({
        "fingerprint": status::hex(&config.fingerprint),
        "node": node(config),
        "jurisdictions": config.jurisdictions.iter().map(|jurisdiction| json!({
            "name": jurisdiction.name,
            "countries": jurisdiction.countries.iter().map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "regions": config.regions.iter().map(|region| json!({
            "name": region.name,
            "latitude": region.latitude,
            "longitude": region.longitude,
            "jurisdiction": region.jurisdiction,
            "capacity_per_second": region.capacity_per_second,
            "nodes": region.nodes.iter().map(|node| json!({
                "name": node.name, "peer": node.peer, "addresses": node.addresses,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "zones": config.zones.iter().map(|zone| json!({
            "name": zone.name,
            "name_servers": zone.name_servers.iter().map(|ns| &ns.name).collect::<Vec<_>>(),
            "ttl_s": zone.ttl_s,
            "negative_ttl_s": zone.negative_ttl_s,
        })).collect::<Vec<_>>(),
        "tenants": config.tenants.iter().map(|tenant| &tenant.name).collect::<Vec<_>>(),
        "sites": config.sites.iter().map(|site| shown_site(site)).collect::<Vec<_>>(),
        "witnesses": config.witnesses.iter().map(|set| json!({
            "realm": set.realm, "version": set.version, "nodes": set.nodes, "next": set.next,
        })).collect::<Vec<_>>(),
        "streams": config.streams.iter().map(|stream| json!({
            "realm": stream.realm,
            "name": stream.name,
            "servers": stream.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "jurisdiction": stream.jurisdiction,
            "replicas": stream.replicas,
        })).collect::<Vec<_>>(),
    })
}

fn node(config: &Config) -> Value {
    let node = &config.node;
    json!({
        "name": node.name,
        "region": node.region,
        "state_dir": node.state_dir,
        "listeners": status::listeners(node),
        "workers": node.workers,
        "memory_bytes": node.memory_bytes,
        "disk_bytes": node.disk_bytes,
        "geo": { "file": node.geo.file, "asn_file": node.geo.asn_file, "round_trips": node.geo.round_trips, "max_age_s": node.geo.max_age_ms / 1000 },
        "access_log": node.access_log,
    })
}

fn shown_site(site: &region_config::Site) -> Value {
    json!({
        "name": site.name,
        "tenant": site.tenant,
        "hosts": site.hosts.iter().map(host).collect::<Vec<_>>(),
        "pin": site.pin,
        "dns_ttl_s": site.dns_ttl_s,
        "steering": shown_steering(&site.steering),
        "cache_status": site.cache_status.as_str(),
        "purge_by_response": site.purge_by_response,
        "tls": site.tls.as_ref().map(|files| json!({ "certificate": files.certificate, "key": files.key })),
        "origins": site.origins.iter().map(|origin| json!({
            "name": origin.name,
            "host": origin.host,
            "port": origin.port,
            "tls": origin.tls,
            "protocol": match origin.protocol {
                OriginProtocol::Http1 => "http1",
                OriginProtocol::Http2 => "http2",
                OriginProtocol::Auto => "auto",
            },
            "connections_max": origin.connections_max,
            "health": origin.health.as_ref().map(|check| json!({
                "path": check.path, "interval_ms": check.interval_ms, "timeout_ms": check.timeout_ms,
            })),
        })).collect::<Vec<_>>(),
        "routes": site.routes.iter().map(shown_route).collect::<Vec<_>>(),
    })
}

fn shown_steering(steering: &SiteSteering) -> Value {
    json!({
        "allow": steering.allow,
        "deny": steering.deny,
        "regions": steering.regions.iter().map(|wish| json!({
            "region": wish.region, "weight": wish.weight, "bias_percent": wish.bias_percent, "priority": wish.priority,
        })).collect::<Vec<_>>(),
        "pins": steering.pins.iter().map(|pin| json!({
            "for": pin.whom.to_string(), "force": pin.force.as_str(), "regions": pin.regions,
        })).collect::<Vec<_>>(),
        "no_data": steering.no_data,
        "all_down": steering.all_down.as_str(),
        "fallback": steering.fallback,
    })
}

fn shown_route(route: &Route) -> Value {
    let Route { path: pattern, policy } = route;
    json!({
        "path": path(pattern),
        "cache": match policy.cache {
            CacheMode::Origin => "origin",
            CacheMode::Off => "off",
        },
        "class": policy.class.as_str(),
        "default_ttl_s": policy.default_ttl_s,
        "ttl_min_s": policy.ttl_min_s,
        "ttl_max_s": policy.ttl_max_s,
        "ttl_s": policy.ttl_s,
        "negative_ttl": {
            "not_found_s": policy.negative.not_found_s,
            "client_error_s": policy.negative.client_error_s,
            "server_error_s": policy.negative.server_error_s,
        },
        "heuristic": policy.heuristic,
        "stale_if_error_s": policy.stale_if_error_s,
        "compress": policy.compress,
        "refresh_ahead": policy.refresh_ahead,
        "honour_request_cache_control": policy.honour_request_cache_control,
        "variants_max": policy.variants_max,
        "query": policy.query.as_ref().map(|rules| {
            let (allow, deny) = match &rules.names {
                QueryNames::All => (None, None),
                QueryNames::Allow(names) => (Some(names), None),
                QueryNames::Deny(names) => (None, Some(names)),
            };
            json!({ "allow": allow, "deny": deny, "sort": rules.sort, "drop_tracking": rules.drop_tracking })
        }),
        "key": policy.key.as_ref().map(|rules| json!({
            "headers": rules.headers, "cookies": rules.cookies, "country": rules.country, "device": rules.device,
        })),
        "normalise": policy.normalise.as_ref().map(|rules| json!({
            "accept_encoding": rules.accept_encoding, "accept_language": rules.accept_language,
        })),
    })
}

/// A path pattern as it is written in the config.
pub(super) fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(prefix) => format!("{prefix}/*"),
    }
}
