//! Checks requests against their answers.

use std::collections::BTreeMap;

use super::Report;
use super::record::{DeviceLog, Record, Step};

/// Each request on a connection that stays open is answered once, before those that the device sent after it.
pub(super) fn judge(record: &Record, report: &mut Report) {
    for log in &record.devices {
        judge_device(log, report);
    }
}

fn judge_device(log: &DeviceLog, report: &mut Report) {
    let mut open = BTreeMap::new();
    for step in &log.steps {
        match step {
            Step::Asked { request, event } => drop(open.insert(*request, *event)),
            Step::Answered { request } => take_answer(log, *request, &mut open, report),
            // Nobody is left to answer.
            Step::Disconnected => open.clear(),
            _ => {}
        }
    }
    for (request, event) in open {
        let name = &log.name;
        report.problem(format!(
            "{name}: request {request} ({event}) was not answered"
        ));
    }
}

fn take_answer(
    log: &DeviceLog,
    request: u64,
    open: &mut BTreeMap<u64, &'static str>,
    report: &mut Report,
) {
    let name = &log.name;
    let later = open.split_off(&request);
    for (passed_over, event) in std::mem::replace(open, later) {
        report.problem(format!(
            "{name}: request {request} was answered, and {passed_over} ({event}), which was asked before, was not"
        ));
    }
    if open.remove(&request).is_none() {
        report.problem(format!("{name}: request {request} was answered again"));
    }
}
