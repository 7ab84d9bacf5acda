//! A file without a name, of sealed pieces: what a snapshot keeps on disk, and what is sorted to make one.
//!
//! The file is unlinked before anything is written to it and its key is never anywhere but in this process: whatever ends the
//! process, nothing is left that could be read, found or cleaned up. Each piece is sealed by AES-256-GCM under a nonce that is used
//! once, and opens in its own place only.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use concordat_policy::{Code, Refusal};
use rustix::fs::fstatvfs;
use zeroize::Zeroizing;

/// Where a piece lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    number: u64,
    offset: u64,
    bytes: usize,
}

/// The file, while it is written and after.
pub(super) struct Sealed {
    file: File,
    key: LessSafeKey,
    pieces: u64,
    bytes: u64,
    room: Arc<Room>,
}

/// What of a disk is left to others, unless the department says how much: the larger of 1 GiB and a twentieth of the disk.
const LEAST: u64 = 1 << 30;
const SHARE: u64 = 20;
/// After how many bytes it is looked again whether so much is left.
const LOOK: u64 = 64 << 20;

/// What all snapshots may take of the disk, and take.
#[derive(Debug)]
pub(super) struct Room {
    /// None where 0 bytes may be taken.
    pub(super) most: u64,
    /// Bytes of the disk that are left to others, the access log above all.
    pub(super) reserve: Option<u64>,
    pub(super) taken: AtomicU64,
}

impl Room {
    pub(super) fn new(most: u64, reserve: Option<u64>) -> Self {
        Self { most, reserve, taken: AtomicU64::new(0) }
    }

    /// Fails where no more of the disk that `place` lies on is left than others may need. Blocks.
    pub(super) fn left(&self, place: impl AsFd) -> Result<(), Refusal> {
        let disk = fstatvfs(place).map_err(Refusal::internal)?;
        let reserve = self.reserve.unwrap_or_else(|| LEAST.max(disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE));
        if disk.f_bavail.saturating_mul(disk.f_frsize) < reserve {
            return Err(Refusal::internal("less of the disk is left than snapshot_reserve_mib says"));
        }
        Ok(())
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.bytes)
    }
}

impl Sealed {
    /// A new one in `folder`, under a new key.
    ///
    /// # Errors
    /// When it cannot be made, or too little of the disk is left.
    pub(super) fn new(folder: &Path, room: Arc<Room>) -> Result<Self, Refusal> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(Refusal::internal)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(Refusal::internal)?;
        let file = tempfile::tempfile_in(folder).map_err(Refusal::internal)?;
        room.left(&file)?;
        Ok(Self { file, key: LessSafeKey::new(key), pieces: 0, bytes: 0, room })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a batch as the next piece.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when this alone is more than may be taken; another when all together are, when too little of the disk is
    /// left, or when it cannot be written.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Place, Refusal> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(Refusal::internal)?;
        writer.write(batch).map_err(Refusal::internal)?;
        let mut piece = writer.into_inner().map_err(Refusal::internal)?;
        self.key.seal_in_place_append_tag(nonce(self.pieces), aad(self.pieces), &mut piece).map_err(Refusal::internal)?;
        let place = Place { number: self.pieces, offset: self.bytes, bytes: piece.len() };
        self.pieces += 1;
        let taken = self.room.taken.fetch_add(piece.len() as u64, Ordering::AcqRel);
        self.bytes += piece.len() as u64;
        if self.bytes > self.room.most {
            return Err(Refusal::new(Code::LimitExceeded, "a snapshot would take more than snapshot_disk_mib"));
        }
        if taken.saturating_add(piece.len() as u64) > self.room.most {
            return Err(Refusal::internal("all snapshots together would take more than snapshot_disk_mib"));
        }
        if place.offset / LOOK != self.bytes / LOOK {
            self.room.left(&self.file)?;
        }
        self.file.write_all_at(&piece, place.offset).map_err(Refusal::internal)?;
        Ok(place)
    }

    /// Reads the batch at `place`. Blocks.
    pub(super) fn read(&self, place: Place) -> Result<RecordBatch, Refusal> {
        let mut piece = MutableBuffer::from_len_zeroed(place.bytes);
        self.file.read_exact_at(piece.as_slice_mut(), place.offset).map_err(Refusal::internal)?;
        let length = self
            .key
            .open_in_place(nonce(place.number), aad(place.number), piece.as_slice_mut())
            .map_err(|_| Refusal::internal("a piece of a snapshot does not open"))?
            .len();
        piece.truncate(length);
        let mut rest: Buffer = piece.into();
        let batch = StreamDecoder::new().decode(&mut rest).map_err(Refusal::internal)?;
        batch.ok_or_else(|| Refusal::internal("a piece of a snapshot without a batch"))
    }

    /// Writes over all of it, as a disk that fails does.
    #[cfg(test)]
    pub(super) fn spoil(&self) {
        self.file.write_all_at(&vec![0; usize::try_from(self.bytes).unwrap()], 0).unwrap();
    }
}

/// No piece has the number of another.
fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    Nonce::assume_unique_for_key(nonce)
}

fn aad(number: u64) -> Aad<[u8; 8]> {
    Aad::from(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn room(most: u64) -> Arc<Room> {
        Arc::new(Room::new(most, Some(0)))
    }

    #[test]
    fn a_piece_opens_in_its_place_only_and_says_nothing_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut sealed = Sealed::new(folder.path(), room(1 << 20)).unwrap();
        let batch = |text: &str| {
            let texts: StringArray = std::iter::repeat_n(Some(text), 100).collect();
            RecordBatch::try_from_iter([("text", Arc::new(texts) as arrow::array::ArrayRef)]).unwrap()
        };
        let [first, second] = ["a secret", "another1"].map(|text| sealed.write(&batch(text)).unwrap());
        assert_eq!([first, second].map(|place| sealed.read(place).unwrap()), ["a secret", "another1"].map(batch));
        assert_eq!((std::fs::read_dir(folder.path()).unwrap().count(), first.bytes), (0, second.bytes));
        let mut disk = vec![0; usize::try_from(sealed.bytes()).unwrap()];
        sealed.file.read_exact_at(&mut disk, 0).unwrap();
        assert!(!disk.windows(8).any(|bytes| bytes == b"a secret"));
        assert!(sealed.read(Place { number: first.number, ..second }).is_err(), "another's place");
        disk[40] ^= 1;
        sealed.file.write_all_at(&disk, 0).unwrap();
        assert!(sealed.read(first).is_err() && sealed.read(second).is_ok(), "an altered piece");
        let small_room = room(64);
        let mut small = Sealed::new(folder.path(), Arc::clone(&small_room)).unwrap();
        assert_eq!(small.write(&batch("x")).unwrap_err().code, Code::LimitExceeded, "no more than it may take");
        drop(small);
        assert_eq!(small_room.taken.load(Ordering::Acquire), 0, "and gives it back");
    }

    #[test]
    fn what_others_need_of_the_disk_is_left_to_them_from_the_start_and_while_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let short = || Arc::new(Room::new(1 << 30, Some(u64::MAX)));
        assert_eq!(Sealed::new(folder.path(), short()).unwrap_err().code, Code::Internal);
        let mut sealed = Sealed::new(folder.path(), room(1 << 30)).unwrap();
        // From now on others need more than there is.
        sealed.room = short();
        let text = "x".repeat(8 << 20);
        let batch = RecordBatch::try_from_iter([("text", Arc::new(StringArray::from(vec![text])) as arrow::array::ArrayRef)]).unwrap();
        let written = (0..8).take_while(|_| sealed.write(&batch).is_ok()).count();
        assert_eq!(written, 7, "it is looked again within 64 MiB");
    }
}
