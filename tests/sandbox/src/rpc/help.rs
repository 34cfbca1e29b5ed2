//! `help.*`: the list of data centres.

use grammers_tl_types::{Serializable, enums, types};

use super::{Answer, Call};
use crate::state::World;

/// Seconds for which a client may keep the configuration.
const CONFIG_TTL: i64 = 3600;

pub(super) fn config(world: &World, call: &Call) -> Answer {
    // Clients must come back under the address that brought them here, whatever the listener is bound to.
    let host = world.conns.get(&call.to.conn).map(|conn| conn.local.ip());
    let dc_options = world
        .dcs
        .iter()
        .map(|(id, address)| {
            let ip = host.unwrap_or(address.ip());
            enums::DcOption::Option(types::DcOption {
                ipv6: ip.is_ipv6(),
                media_only: false,
                tcpo_only: false,
                cdn: false,
                r#static: true,
                this_port_only: true,
                id: *id,
                ip_address: ip.to_string(),
                port: i32::from(address.port()),
                secret: None,
            })
        })
        .collect();
    let now = world.now();
    let config = types::Config {
        default_p2p_contacts: false,
        preload_featured_stickers: false,
        revoke_pm_inbox: true,
        blocked_mode: false,
        force_try_ipv6: false,
        date: now as i32,
        expires: (now + CONFIG_TTL) as i32,
        test_mode: false,
        this_dc: call.dc,
        dc_options,
        dc_txt_domain_name: String::new(),
        chat_size_max: 200,
        megagroup_size_max: 200_000,
        forwarded_count_max: 100,
        online_update_period_ms: 210_000,
        offline_blur_timeout_ms: 5_000,
        offline_idle_timeout_ms: 30_000,
        online_cloud_timeout_ms: 300_000,
        notify_cloud_delay_ms: 30_000,
        notify_default_delay_ms: 1_500,
        push_chat_period_ms: 60_000,
        push_chat_limit: 2,
        edit_time_limit: 172_800,
        revoke_time_limit: i32::MAX,
        revoke_pm_time_limit: i32::MAX,
        rating_e_decay: 2_419_200,
        stickers_recent_limit: 200,
        channels_read_media_period: 604_800,
        tmp_sessions: None,
        call_receive_timeout_ms: 20_000,
        call_ring_timeout_ms: 90_000,
        call_connect_timeout_ms: 30_000,
        call_packet_timeout_ms: 10_000,
        me_url_prefix: "https://t.me/".to_owned(),
        autoupdate_url_prefix: None,
        gif_search_username: None,
        venue_search_username: None,
        img_search_username: None,
        static_maps_provider: None,
        caption_length_max: 1024,
        message_length_max: 4096,
        webfile_dc_id: call.dc,
        suggested_lang_code: None,
        lang_pack_version: None,
        base_lang_pack_version: None,
        reactions_default: None,
        autologin_token: None,
    };
    Ok(enums::Config::Config(config).to_bytes())
}

pub(super) fn nearest_dc(world: &World, call: &Call) -> Answer {
    let nearest =
        types::NearestDc { country: "XX".to_owned(), this_dc: call.dc, nearest_dc: world.default_dc() };
    Ok(enums::NearestDc::Dc(nearest).to_bytes())
}
