//! The table of API methods that this server answers.

use grammers_tl_types::{Identifiable, functions as f};

use super::{
    Call, Reply, account, binding, bot, help, messages, password, phone, qr, transfer, updates, users,
};
use crate::state::World;
use crate::state::fault::RpcError;
use crate::tl::{Reader, id};

/// A method's name in the schema, for the log and for ordered faults.
pub(super) fn name(method: u32) -> String {
    match method {
        id::SEND_MESSAGE_225 | id::SEND_MESSAGE_198 => "messages.sendMessage".to_owned(),
        _ => match grammers_tl_types::name_for_id(method) {
            "(unknown)" => format!("unknown.{method:08x}"),
            known => known.to_owned(),
        },
    }
}

pub(super) fn dispatch(world: &mut World, call: &Call) -> Result<Reply, RpcError> {
    let mut r = Reader::new(&call.args);
    let r = &mut r;
    let now = match call.method {
        f::help::GetConfig::CONSTRUCTOR_ID => help::config(world, call),
        f::help::GetNearestDc::CONSTRUCTOR_ID => help::nearest_dc(world, call),

        f::auth::ExportLoginToken::CONSTRUCTOR_ID => qr::export(world, call, r),
        f::auth::ImportLoginToken::CONSTRUCTOR_ID => qr::import(world, call, r),
        f::auth::AcceptLoginToken::CONSTRUCTOR_ID => qr::accept(world, call, r),

        f::auth::SendCode::CONSTRUCTOR_ID => phone::send_code(world, call, r),
        f::auth::ResendCode::CONSTRUCTOR_ID => phone::resend_code(world, call, r),
        f::auth::CancelCode::CONSTRUCTOR_ID => phone::cancel_code(world, call, r),
        f::auth::SignIn::CONSTRUCTOR_ID => phone::sign_in(world, call, r),

        f::auth::ImportBotAuthorization::CONSTRUCTOR_ID => bot::import(world, call, r),

        f::account::GetPassword::CONSTRUCTOR_ID => return password::question(world, call),
        f::auth::CheckPassword::CONSTRUCTOR_ID => return password::check(world, call, r),

        f::auth::LogOut::CONSTRUCTOR_ID => account::log_out(world, call),
        f::account::GetAuthorizations::CONSTRUCTOR_ID => account::authorizations(world, call),
        f::account::ResetAuthorization::CONSTRUCTOR_ID => account::reset_authorization(world, call, r),
        f::auth::ResetAuthorizations::CONSTRUCTOR_ID => account::reset_authorizations(world, call),

        f::auth::ExportAuthorization::CONSTRUCTOR_ID => transfer::export(world, call, r),
        f::auth::ImportAuthorization::CONSTRUCTOR_ID => transfer::import(world, call, r),
        f::auth::BindTempAuthKey::CONSTRUCTOR_ID => binding::bind(world, call, r),

        f::users::GetUsers::CONSTRUCTOR_ID => users::get_users(world, call, r),
        f::users::GetFullUser::CONSTRUCTOR_ID => users::get_full_user(world, call, r),

        f::updates::GetState::CONSTRUCTOR_ID => updates::state(world, call),
        f::updates::GetDifference::CONSTRUCTOR_ID => updates::difference(world, call),

        f::messages::SendMessage::CONSTRUCTOR_ID | id::SEND_MESSAGE_225 | id::SEND_MESSAGE_198 => {
            messages::send(world, call)
        }
        _ => Err(RpcError::new(400, "METHOD_INVALID")),
    };
    now.map(Reply::Now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_named_as_in_the_schema() {
        assert_eq!(name(f::users::GetUsers::CONSTRUCTOR_ID), "users.getUsers");
        assert_eq!(name(f::help::GetConfig::CONSTRUCTOR_ID), "help.getConfig");
        assert_eq!(name(id::SEND_MESSAGE_225), "messages.sendMessage");
        assert_eq!(name(0x0102_0304), "unknown.01020304");
    }
}
