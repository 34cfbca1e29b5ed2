//! `usm sandbox` and `usm serve --sandbox`: the lines that programs wait for.

use super::program::{Service, Usm, http};

#[test]
fn serve_prints_the_sandboxs_line_and_its_own() {
    let service = Service::start();
    assert_eq!(service.ready["ready"], true);
    for dc in ["1", "2", "3"] {
        assert!(service.ready["dcs"][dc].as_u64().unwrap() > 0, "{}", service.ready);
    }
    assert!(service.ready["public_key"].as_str().unwrap().contains("BEGIN RSA PUBLIC KEY"));
    let port = service.address.rsplit_once(':').unwrap().1.parse().unwrap();
    http(port, "GET", "/readyz", "");
    assert_eq!(service.get("/state")["counters"]["duplicates"], 0);
    service.stop();
}

#[test]
fn a_sandbox_by_itself_prints_one_line_and_ends_on_a_signal() {
    let usm = Usm::new();
    let mut sandbox = usm.start(&[
        "sandbox",
        "--dcs",
        "1:0,2:0",
        "--set",
        "qr_ttl=5",
        "--pub",
        "key.pem",
        "--persist",
        "kept.json",
    ]);
    let ready = sandbox.step();
    assert_eq!(ready["dcs"].as_object().unwrap().len(), 2);
    assert_eq!(std::fs::read_to_string(usm.path("key.pem")).unwrap(), ready["public_key"].as_str().unwrap());
    let admin = u16::try_from(ready["admin"].as_u64().unwrap()).unwrap();
    assert_eq!(http(admin, "GET", "/state", "")["config"]["qr_ttl"].as_f64(), Some(5.0));
    let ran = sandbox.interrupt();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    usm.run(&["sandbox", "--set", "gravity=9"]).misused("gravity");
    usm.run(&["sandbox", "--dcs", "two"]).misused("--dcs");
}

#[test]
fn a_second_server_leaves_the_first_ones_folder_alone() {
    let service = Service::start();
    let before = std::fs::read(service.usm.path("data/sandbox.json")).unwrap();
    let second = ["serve", "--sandbox", "--listen", "127.0.0.1:0", "--metrics-listen", "off"];
    service.run(&second).failed("another process has");
    assert_eq!(std::fs::read(service.usm.path("data/sandbox.json")).unwrap(), before);
    service.run(&["health"]).done();
}
