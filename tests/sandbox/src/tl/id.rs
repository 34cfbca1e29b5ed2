//! Constructor numbers that the server reads or writes by hand. API methods take theirs from the schema crate.

pub(crate) const VECTOR: u32 = 0x1cb5_c415;
pub(crate) const BOOL_TRUE: u32 = 0x9972_75b5;
pub(crate) const BOOL_FALSE: u32 = 0xbc79_9737;

pub(crate) const JSON_NULL: u32 = 0x3f6d_7b68;
pub(crate) const JSON_BOOL: u32 = 0xc734_5e6a;
pub(crate) const JSON_NUMBER: u32 = 0x2be0_dfa4;
pub(crate) const JSON_STRING: u32 = 0xb71e_767a;
pub(crate) const JSON_ARRAY: u32 = 0xf744_4763;
pub(crate) const JSON_OBJECT: u32 = 0x99c1_d49d;
pub(crate) const JSON_OBJECT_VALUE: u32 = 0xc0de_1bd9;

// Key exchange.
pub(crate) const REQ_PQ: u32 = 0x6046_9778;
pub(crate) const REQ_PQ_MULTI: u32 = 0xbe7e_8ef1;
pub(crate) const REQ_DH_PARAMS: u32 = 0xd712_e4be;
pub(crate) const SET_CLIENT_DH_PARAMS: u32 = 0xf504_5f1f;
pub(crate) const RES_PQ: u32 = 0x0516_2463;
pub(crate) const P_Q_INNER_DATA: u32 = 0x83c9_5aec;
pub(crate) const P_Q_INNER_DATA_DC: u32 = 0xa9f5_5f95;
pub(crate) const P_Q_INNER_DATA_TEMP: u32 = 0x3c6a_84d4;
pub(crate) const P_Q_INNER_DATA_TEMP_DC: u32 = 0x56fd_df88;
pub(crate) const SERVER_DH_PARAMS_FAIL: u32 = 0x79cb_045d;
pub(crate) const SERVER_DH_PARAMS_OK: u32 = 0xd0e8_075c;
pub(crate) const SERVER_DH_INNER_DATA: u32 = 0xb589_0dba;
pub(crate) const CLIENT_DH_INNER_DATA: u32 = 0x6643_b654;
pub(crate) const DH_GEN_OK: u32 = 0x3bcb_f734;
pub(crate) const DH_GEN_RETRY: u32 = 0x46dc_1fb9;
pub(crate) const DH_GEN_FAIL: u32 = 0xa69d_ae02;
pub(crate) const BIND_AUTH_KEY_INNER: u32 = 0x75a3_f765;

// Messages of the session layer.
pub(crate) const MSG_CONTAINER: u32 = 0x73f1_f8dc;
pub(crate) const GZIP_PACKED: u32 = 0x3072_cfa1;
pub(crate) const RPC_RESULT: u32 = 0xf35c_6d01;
pub(crate) const RPC_ERROR: u32 = 0x2144_ca19;
pub(crate) const MSGS_ACK: u32 = 0x62d6_b459;
pub(crate) const BAD_MSG_NOTIFICATION: u32 = 0xa7ef_f811;
pub(crate) const BAD_SERVER_SALT: u32 = 0xedab_447b;
pub(crate) const NEW_SESSION_CREATED: u32 = 0x9ec2_0908;
pub(crate) const MSGS_STATE_REQ: u32 = 0xda69_fb52;
pub(crate) const MSGS_STATE_INFO: u32 = 0x04de_b57d;
pub(crate) const MSGS_ALL_INFO: u32 = 0x8cc0_d131;
pub(crate) const MSG_RESEND_REQ: u32 = 0x7d86_1a08;
pub(crate) const MSG_RESEND_ANS_REQ: u32 = 0x8610_baeb;
pub(crate) const RPC_DROP_ANSWER: u32 = 0x58e4_a740;
pub(crate) const RPC_ANSWER_UNKNOWN: u32 = 0x5e2a_d36e;
pub(crate) const RPC_ANSWER_DROPPED_RUNNING: u32 = 0xcd78_e586;
pub(crate) const RPC_ANSWER_DROPPED: u32 = 0xa43a_d8b7;
pub(crate) const GET_FUTURE_SALTS: u32 = 0xb921_bd04;
pub(crate) const FUTURE_SALTS: u32 = 0xae50_0895;
pub(crate) const PING: u32 = 0x7abe_77ec;
pub(crate) const PING_DELAY_DISCONNECT: u32 = 0xf342_7b8c;
pub(crate) const PONG: u32 = 0x3477_73c5;
pub(crate) const DESTROY_SESSION: u32 = 0xe751_2126;
pub(crate) const DESTROY_SESSION_OK: u32 = 0xe220_45fc;
pub(crate) const DESTROY_SESSION_NONE: u32 = 0x62d3_50c9;
pub(crate) const DESTROY_AUTH_KEY: u32 = 0xd143_5160;
pub(crate) const DESTROY_AUTH_KEY_OK: u32 = 0xf660_e1d4;
pub(crate) const HTTP_WAIT: u32 = 0x9299_359f;

// Objects whose number depends on the client's layer, newest first (layers 229 and 230, 225, 198, 158).
pub(crate) const USER_229: u32 = 0xb1b8_cc83;
pub(crate) const USER_225: u32 = 0x3177_4388;
pub(crate) const USER_198: u32 = 0x4b46_c37e;
pub(crate) const USER_158: u32 = 0x8f97_c628;
pub(crate) const USER_FULL_225: u32 = 0x06cb_e645;
pub(crate) const USER_FULL_198: u32 = 0x4d97_5bbc;
pub(crate) const USER_FULL_158: u32 = 0x93ea_db53;
pub(crate) const PEER_SETTINGS_225: u32 = 0xf477_41f7;
pub(crate) const PEER_SETTINGS_198: u32 = 0xacd6_6c5e;
pub(crate) const PEER_SETTINGS_158: u32 = 0xa518_110d;
pub(crate) const PEER_NOTIFY_SETTINGS_198: u32 = 0x9962_2c0c;
pub(crate) const PEER_NOTIFY_SETTINGS_158: u32 = 0xa83b_0426;
pub(crate) const SEND_MESSAGE_225: u32 = 0x545c_d15a;
pub(crate) const SEND_MESSAGE_198: u32 = 0x983f_9745;
