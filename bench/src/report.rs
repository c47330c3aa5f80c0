//! Results as text.

use std::fmt::{self, Display, Formatter};

use crate::crowd::{ConnectFigures, IdleFigures};
use crate::fanout;
use crate::ledger::Faults;
use crate::meter::Latency;
use crate::raw;
use crate::run::{Figures, Usage};

impl Display for Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let pace = match (self.window, self.rate) {
            (Some(window), _) => format!("window {window}"),
            (_, rate) => format!("{} sends/s due", rate.unwrap_or_default()),
        };
        writeln!(
            f,
            "{} door, {} rooms x {} members ({} connected) x {} devices, {} senders a room, {pace}, {} bytes, chatList={}",
            self.door,
            self.rooms,
            self.members,
            self.connected,
            self.devices,
            self.senders,
            self.content_bytes,
            self.list
        )?;
        writeln!(f, "sends/s          {:>12.0}", self.sends_per_sec)?;
        writeln!(f, "deliveries/s     {:>12.0}", self.deliveries_per_sec)?;
        writeln!(f, "ack              {}", self.ack)?;
        writeln!(f, "delivery         {}", self.delivery)?;
        writeln!(f, "bytes received   {:>12}", self.received_bytes)?;
        for (name, usage) in [
            ("server", &self.server),
            ("Redis", &self.redis),
            ("load", &self.load),
        ] {
            if let Some(usage) = usage {
                writeln!(f, "{name:<17}{usage}")?;
            }
        }
        if let Some(calls) = self.evalsha_per_send {
            writeln!(f, "EVALSHA a send   {calls:>12.3}")?;
        }
        if let Some(raw) = self.raw {
            writeln!(f, "raw sends/s      {:>12.0}", raw.sends_per_sec)?;
            writeln!(f, "server / raw     {:>12.2}", raw.server_to_raw)?;
        }
        match &self.first_error {
            Some(first) => writeln!(
                f,
                "errors           {:>12}  the first: {first}",
                self.errors
            )?,
            None => writeln!(f, "errors           {:>12}", self.errors)?,
        }
        write!(f, "deliveries       {}", self.faults)
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:>8.2} ms   p99 {:>8.2} ms   p99.9 {:>8.2} ms",
            self.p50_ms, self.p99_ms, self.p999_ms
        )
    }
}

impl Display for Usage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CPU {:>6.2} s   {:>6.2} us a delivery   RSS {} KiB",
            self.cpu_secs, self.cpu_us_per_delivery, self.rss_kib
        )
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return write!(f, "each came once, in order");
        }
        write!(
            f,
            "WRONG: {} lost, {} came twice, {} out of order, {} of other rooms",
            self.lost, self.twice, self.out_of_order, self.foreign
        )
    }
}

impl Display for IdleFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} door, {} connections idle for {} s: server RSS {} KiB, before {} KiB: {:.1} KiB each",
            self.door,
            self.connections,
            self.secs,
            self.rss_kib,
            self.rss_kib_before,
            self.rss_kib_each
        )
    }
}

impl Display for ConnectFigures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} door, {} clients at once: all served after {:.2} s",
            self.door, self.clients, self.secs
        )?;
        match self.peak_rss_kib {
            Some(peak) => write!(f, ", peak RSS of the server {peak} KiB"),
            None => Ok(()),
        }
    }
}

impl Display for fanout::Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} door, one send to {} members: last delivery after {:.2} ms (median of {}), at most {:.2} ms",
            self.door, self.members, self.median_ms, self.sends, self.max_ms
        )
    }
}

impl Display for raw::Figures {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the send script alone: {:.0} sends/s",
            self.sends_per_sec
        )
    }
}
