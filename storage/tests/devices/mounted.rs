//! The tree as the kernel sees it: a FUSE file system without a cache that could outlive a power cut.

use std::{
    ffi::OsStr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::tree::{Body, Content, Entries, Fault, Ino, Tree};

/// The kernel may remember nothing.
const REMEMBERED: Duration = Duration::ZERO;
const PUNCH_HOLE: i32 = 2;

/// Shared with the test, which cuts the power.
#[derive(Clone)]
pub(crate) struct Device(Arc<Mutex<Tree>>);

impl Device {
    /// Mounts an empty tree; it is gone when the session is dropped.
    pub(crate) fn mount(at: &Path) -> std::io::Result<(Self, BackgroundSession)> {
        let device = Self(Arc::new(Mutex::new(Tree::new())));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("dske-power-cut".to_owned())];
        let session = fuser::spawn_mount(device.clone(), at, &config)?;
        Ok((device, session))
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attr(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let tree = self.tree();
        let node = tree.node(ino).map_err(errno)?;
        let (kind, size) = match &node.body {
            Body::File(content) => (FileType::RegularFile, content.seen.len() as u64),
            Body::Dir(_) => (FileType::Directory, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: u16::try_from(node.mode).unwrap_or(0o700),
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::Missing => Errno::ENOENT,
        Fault::Exists => Errno::EEXIST,
        Fault::NotEmpty => Errno::ENOTEMPTY,
        Fault::WrongKind => Errno::EINVAL,
        Fault::ReadOnly => Errno::EROFS,
        Fault::NoPower => Errno::EIO,
    }
}

fn done(result: Result<(), Fault>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(fault) => reply.error(errno(fault)),
    }
}

fn entry(device: &Device, made: Result<Ino, Fault>, reply: ReplyEntry) {
    match made.map_err(errno).and_then(|ino| device.attr(ino)) {
        Ok(attr) => reply.entry(&REMEMBERED, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Device {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.tree().lookup(parent.0, name);
        entry(self, found, reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino.0) {
            Ok(attr) => reply.attr(&REMEMBERED, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = {
            let mut tree = self.tree();
            let mode = mode.map_or(Ok(()), |mode| tree.set_mode(ino.0, mode));
            mode.and_then(|()| size.map_or(Ok(()), |size| tree.set_len(ino.0, size)))
        };
        match changed.map_err(errno).and_then(|()| self.attr(ino.0)) {
            Ok(attr) => reply.attr(&REMEMBERED, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.tree().make(parent.0, name, mode & !umask, Body::Dir(Entries::default()));
        entry(self, made, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.tree().unlink(parent.0, name), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.tree().unlink(parent.0, name), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        done(self.tree().rename((parent.0, name), (newparent.0, newname)), reply);
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.tree().node(ino.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.tree().make(parent.0, name, mode & !umask, Body::File(Content::default()));
        match made.map_err(errno).and_then(|ino| self.attr(ino)) {
            Ok(attr) => {
                reply.created(&REMEMBERED, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO)
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree().file(ino.0) {
            Ok(content) => {
                let len = content.seen.len();
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(len);
                let to = from.saturating_add(size as usize).min(len);
                reply.data(&content.seen[from..to]);
            }
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree().write(ino.0, offset, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(fault) => reply.error(errno(fault)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.tree().sync(ino.0), reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.tree().sync_dir(ino.0), reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let tree = self.tree();
        let entries = match tree.dir(ino.0) {
            Ok(entries) => entries,
            Err(fault) => return reply.error(errno(fault)),
        };
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        for (number, (name, &child)) in entries.seen.iter().enumerate().skip(skip) {
            let kind = match tree.node(child).map(|node| &node.body) {
                Ok(Body::File(_)) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if reply.add(INodeNo(child), number as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut tree = self.tree();
        let result = if mode & PUNCH_HOLE != 0 {
            tree.zero(ino.0, offset, offset + length)
        } else {
            tree.allocate(ino.0, offset + length)
        };
        done(result, reply);
    }
}
