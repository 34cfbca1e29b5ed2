//! Redis as operators deploy it for more than one machine: a Cluster, or Sentinels around a master.

use super::{Order, Redis, certificates::Certificate, until};

/// The name under which the Sentinels know the master.
const SERVICE: &str = "usm";
const SLOTS: u16 = 16_384;

/// Masters that share the slots, without replicas.
pub(crate) struct Cluster {
    pub(crate) masters: Vec<Redis>,
}

impl Cluster {
    /// Three masters.
    pub(crate) fn start() -> Self {
        Self::start_of(3, None)
    }

    pub(crate) fn start_of(masters: u16, certificate: Option<&Certificate>) -> Self {
        let mut arguments = vec![
            "--cluster-enabled",
            "yes",
            "--cluster-announce-ip",
            "127.0.0.1",
            // Long for a busy machine to be silent, short to wait for.
            "--cluster-node-timeout",
            "2000",
        ];
        if certificate.is_some() {
            arguments.extend(["--tls-cluster", "yes"]);
        }
        let order = Order { certificate: certificate.cloned(), ..Order::of(&arguments) };
        let masters = (0..masters).map(|_| Redis::start_as(order.clone())).collect();
        let cluster = Self { masters };
        let first = &cluster.masters[0];
        for (at, master) in cluster.masters.iter().enumerate() {
            let (begin, end) = cluster.slots(at);
            // Two masters that were born with the same epoch would argue about it first.
            master.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).texts();
            master.command(&["CLUSTER", "ADDSLOTSRANGE", &begin.to_string(), &end.to_string()]).texts();
            let (port, bus) = (master.port.to_string(), master.bus.to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).texts();
        }
        until("the cluster stands", || cluster.masters.iter().all(|master| cluster.stands_for(master)));
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let scheme = scheme(&self.masters[0], "cluster");
        format!("{scheme}://{}", addresses(&self.masters).replacen("&node=", "?node=", 1))
    }

    /// Where among the masters the keys of this hash tag lie.
    pub(crate) fn owner(&self, tag: &str) -> usize {
        let slot = self.masters[0].command(&["CLUSTER", "KEYSLOT", tag]).number();
        let slot = u16::try_from(slot).unwrap();
        (0..self.masters.len()).find(|at| (self.slots(*at).0..=self.slots(*at).1).contains(&slot)).unwrap()
    }

    /// Ends one master as a power failure would. It will know its companions when it is started again.
    pub(crate) fn kill(&mut self, at: usize) {
        self.masters[at].keep("nodes.conf");
        self.masters[at].kill();
    }

    fn slots(&self, at: usize) -> (u16, u16) {
        let share =
            |at: usize| SLOTS / u16::try_from(self.masters.len()).unwrap() * u16::try_from(at).unwrap();
        (share(at), if at + 1 == self.masters.len() { SLOTS - 1 } else { share(at + 1) - 1 })
    }

    fn stands_for(&self, master: &Redis) -> bool {
        let told = master.command(&["CLUSTER", "INFO"]).texts().concat();
        told.contains("cluster_state:ok")
            && told.contains(&format!("cluster_size:{}\r\n", self.masters.len()))
    }
}

/// A master, its replica, and Sentinels that promote the replica when the master is gone.
pub(crate) struct Sentinel {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    pub(crate) sentinels: Vec<Redis>,
}

impl Sentinel {
    pub(crate) fn start_of(sentinels: usize, certificate: Option<&Certificate>) -> Self {
        let secured: &[&str] = if certificate.is_some() { &["--tls-replication", "yes"] } else { &[] };
        let ordered = |arguments: &[&str]| Order {
            certificate: certificate.cloned(),
            ..Order::of(&[arguments, secured].concat())
        };
        // A replica that comes to a master without one would otherwise wait five seconds for company.
        let master = Redis::start_as(ordered(&["--repl-diskless-sync-delay", "0"]));
        let port = master.port.to_string();
        let replica = Redis::start_as(ordered(&["--replicaof", "127.0.0.1", &port]));
        // Sentinels ask a master for its replicas at first and then every ten seconds.
        until("the replica follows", || {
            let told = master.command(&["INFO", "replication"]).texts().concat();
            told.contains("connected_slaves:1") && told.contains("state=online")
        });
        let quorum = sentinels / 2 + 1;
        let config = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} {quorum}\n\
             sentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 3000\n"
        );
        let watching = || Redis::start_as(Order { config: config.clone(), ..ordered(&["--sentinel"]) });
        let sentinels: Vec<Redis> = (0..sentinels).map(|_| watching()).collect();
        let known = sentinels.len() - 1;
        until("the Sentinels know each other and the replica", || {
            sentinels.iter().all(|sentinel| {
                let told = sentinel.command(&["SENTINEL", "MASTER", SERVICE]).texts();
                let value = |name: &str| told.chunks(2).find(|it| it[0] == name).map(|it| it[1].clone());
                value("num-slaves") == Some("1".to_owned())
                    && value("num-other-sentinels") == Some(known.to_string())
            })
        });
        Self { master, replica, sentinels }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = scheme(&self.master, "sentinel");
        let (first, others) = (&self.sentinels[..1], addresses(&self.sentinels));
        let others = others.strip_prefix(&addresses(first)).unwrap();
        format!("{scheme}://{}/0?sentinelServiceName={SERVICE}{others}", addresses(first))
    }
}

fn scheme(member: &Redis, deployment: &str) -> String {
    let url = member.url();
    format!("{}-{deployment}", url.split(':').next().unwrap())
}

/// The first, and the others as the URL's parameters have them.
fn addresses(members: &[Redis]) -> String {
    members.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect::<Vec<_>>().join("&node=")
}
