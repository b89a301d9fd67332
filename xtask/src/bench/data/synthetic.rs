//! Data made from nothing but a seed: random bytes, logs like those of a Hadoop cluster, a table.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::create;
use super::seeded::Seeded;

const RANDOM_FILES: u64 = 16;
const LOG_FILES: u64 = 8;

/// Writes incompressible files, together exactly `share_bytes`.
pub fn random(folder: &Path, share_bytes: u64) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for number in 0..RANDOM_FILES {
        let mut seeded = Seeded::new(&format!("random {number}"));
        fill(
            &folder.join(format!("{number:02}.bin")),
            part(share_bytes, RANDOM_FILES, number),
            || {
                seeded.fill(&mut buffer);
                buffer.clone()
            },
        )?;
    }
    Ok(())
}

/// Writes the logs of eight servers, together exactly `share_bytes`.
pub fn logs(folder: &Path, share_bytes: u64) -> Result<()> {
    for number in 0..LOG_FILES {
        let mut lines = LogLines::new(&format!("logs {number}"));
        let path = folder.join(format!("hadoop-datanode-{number}.log"));
        fill(&path, part(share_bytes, LOG_FILES, number), || lines.some())?;
    }
    Ok(())
}

/// Writes one table of readings.
pub fn csv(folder: &Path, share_bytes: u64) -> Result<()> {
    let mut seeded = Seeded::new("csv");
    let mut row = 0_u64;
    fill(&folder.join("readings.csv"), share_bytes, || {
        let mut text = Vec::with_capacity(1 << 16);
        for _ in 0..1000 {
            row += 1;
            let station = seeded.below(5000);
            let (whole, part) = (seeded.below(60), seeded.below(1000));
            let state = ["ok", "ok", "ok", "late", "missing"][seeded.below(5) as usize];
            let second = 1_763_000_000 + row / 7;
            // Writing to memory does not fail.
            let _ = writeln!(text, "{row},{second},station-{station:04},{whole}.{part:03},{state}");
        }
        text
    })
}

/// Lines to append to a log of the bench, at least `length_bytes` of them.
pub fn more_log(label: &str, length_bytes: usize) -> Vec<u8> {
    let mut lines = LogLines::new(label);
    let mut text = Vec::new();
    while text.len() < length_bytes {
        text.extend(lines.some());
    }
    text.truncate(length_bytes);
    text
}

/// The size of one of so many equal parts; the last takes what does not divide.
fn part(share_bytes: u64, parts: u64, number: u64) -> u64 {
    let rest = if number + 1 == parts { share_bytes % parts } else { 0 };
    share_bytes / parts + rest
}

/// Writes pieces to a file until it has its length.
fn fill(path: &Path, length_bytes: u64, mut next: impl FnMut() -> Vec<u8>) -> Result<()> {
    let mut file = create(path)?;
    let mut left = length_bytes;
    while left > 0 {
        let mut piece = next();
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= piece.len() as u64;
        file.write_all(&piece).with_context(|| format!("write {}", path.display()))?;
    }
    file.flush().with_context(|| format!("write {}", path.display()))
}

/// A server's log: time goes on, blocks come and go.
struct LogLines {
    seeded: Seeded,
    millisecond: u64,
    block: u64,
}

impl LogLines {
    fn new(label: &str) -> Self {
        Self { seeded: Seeded::new(label), millisecond: 0, block: 1_073_741_825 }
    }

    /// The next thousand lines.
    fn some(&mut self) -> Vec<u8> {
        let mut text = Vec::with_capacity(1 << 18);
        for _ in 0..1000 {
            self.line(&mut text);
        }
        text
    }

    fn line(&mut self, text: &mut Vec<u8>) {
        self.millisecond += self.seeded.below(90);
        let (second, part) = (self.millisecond / 1000, self.millisecond % 1000);
        let (day, hour) = (1 + second / 86_400 % 28, second / 3600 % 24);
        let (minute, second) = (second / 60 % 60, second % 60);
        let stamp = format!("2026-11-{day:02} {hour:02}:{minute:02}:{second:02},{part:03}");
        let kind = self.seeded.below(8);
        self.block += u64::from(kind == 0);
        let block = format!(
            "BP-1850412874-10.12.0.5-1690000000000:blk_{}",
            self.block - self.seeded.below(50)
        );
        let generation = 1000 + self.seeded.below(400);
        let peer = format!(
            "/10.12.{}.{}:{}",
            self.seeded.below(8),
            self.seeded.below(60),
            9866 + self.seeded.below(40_000)
        );
        let duration = self.seeded.below(90_000_000);
        let class = "org.apache.hadoop.hdfs.server.datanode";
        // Writing to memory does not fail.
        let _ = match kind {
            0 => writeln!(
                text,
                "{stamp} INFO {class}.DataNode: Receiving {block}_{generation} src: {peer} dest: /10.12.0.9:9866"
            ),
            1 => writeln!(
                text,
                "{stamp} INFO {class}.DataNode.clienttrace: src: {peer}, dest: /10.12.0.9:9866, bytes: {}, op: HDFS_WRITE, cliID: DFSClient_NONMAPREDUCE_{}_1, offset: 0, blockid: {block}_{generation}, duration(ns): {duration}",
                self.seeded.below(134_217_728),
                self.seeded.below(2_000_000_000)
            ),
            2 => writeln!(
                text,
                "{stamp} INFO {class}.DataNode: PacketResponder: {block}_{generation}, type=HAS_DOWNSTREAM_IN_PIPELINE terminating"
            ),
            3 => writeln!(
                text,
                "{stamp} INFO {class}.fsdataset.impl.FsDatasetAsyncDiskService: Deleted {block}_{generation} URI file:/data/{}/current/finalized/subdir{}",
                self.seeded.below(12),
                self.seeded.below(32)
            ),
            4 => writeln!(
                text,
                "{stamp} WARN {class}.DataNode: Slow BlockReceiver write packet to mirror took {}ms (threshold=300ms), downstream {peer}",
                300 + duration % 4000
            ),
            5 => writeln!(
                text,
                "{stamp} INFO org.apache.druid.segment.loading.SegmentLocalCacheManager: Loaded segment [events_2026-11-{day:02}T{hour:02}:00:00.000Z_{generation}] in [{}] ms",
                duration % 9000
            ),
            6 => writeln!(
                text,
                "[{stamp}] INFO [Log partition=events-{}, dir=/data/kafka] Rolled new log segment at offset {} in {} ms. (kafka.log.Log)",
                self.seeded.below(48),
                self.block * 31,
                duration % 40
            ),
            _ => writeln!(
                text,
                "{stamp} INFO org.apache.hadoop.hdfs.StateChange: BLOCK* allocate {block}_{generation}, replicas={peer}, /10.12.0.9:9866 for /lake/events/part-{:05}.parquet",
                self.seeded.below(20_000)
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole() {
        assert_eq!((0..8).map(|number| part(1003, 8, number)).sum::<u64>(), 1003);
    }

    #[test]
    fn appended_lines_have_the_length_that_was_asked_for() {
        let text = more_log("a", 100_000);
        assert_eq!(text.len(), 100_000);
        assert!(text.starts_with(b"2026-11-01 ") || text.starts_with(b"["));
    }
}
