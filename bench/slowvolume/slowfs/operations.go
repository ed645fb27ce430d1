//go:build linux

package slowfs

import "github.com/hanwen/go-fuse/v2/fuse"

// The operations of fuse.RawFileSystem, in its order. Forget is none: nobody waits for it.

func (s *slow) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	s.wait(&header.Caller, "lookup")
	if s.hides(header.NodeId, name) {
		return fuse.ENOENT
	}
	return s.RawFileSystem.Lookup(cancel, header, name, out)
}

func (s *slow) GetAttr(cancel <-chan struct{}, input *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.wait(&input.Caller, "getattr")
	return s.RawFileSystem.GetAttr(cancel, input, out)
}

func (s *slow) SetAttr(cancel <-chan struct{}, input *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.wait(&input.Caller, "setattr")
	return s.RawFileSystem.SetAttr(cancel, input, out)
}

func (s *slow) Mknod(cancel <-chan struct{}, input *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	s.wait(&input.Caller, "mknod")
	return s.RawFileSystem.Mknod(cancel, input, name, out)
}

func (s *slow) Mkdir(cancel <-chan struct{}, input *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	s.wait(&input.Caller, "mkdir")
	return s.made(input.NodeId, s.RawFileSystem.Mkdir(cancel, input, name, out))
}

func (s *slow) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	s.wait(&header.Caller, "unlink")
	return s.RawFileSystem.Unlink(cancel, header, name)
}

func (s *slow) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	s.wait(&header.Caller, "rmdir")
	return s.RawFileSystem.Rmdir(cancel, header, name)
}

func (s *slow) Rename(cancel <-chan struct{}, input *fuse.RenameIn, oldName string, newName string) fuse.Status {
	s.wait(&input.Caller, "rename")
	return s.RawFileSystem.Rename(cancel, input, oldName, newName)
}

func (s *slow) Link(cancel <-chan struct{}, input *fuse.LinkIn, filename string, out *fuse.EntryOut) fuse.Status {
	s.wait(&input.Caller, "link")
	return s.RawFileSystem.Link(cancel, input, filename, out)
}

func (s *slow) Symlink(cancel <-chan struct{}, header *fuse.InHeader, pointedTo string, linkName string, out *fuse.EntryOut) fuse.Status {
	s.wait(&header.Caller, "symlink")
	return s.made(header.NodeId, s.RawFileSystem.Symlink(cancel, header, pointedTo, linkName, out))
}

func (s *slow) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	s.wait(&header.Caller, "readlink")
	return s.RawFileSystem.Readlink(cancel, header)
}

func (s *slow) Access(cancel <-chan struct{}, input *fuse.AccessIn) fuse.Status {
	s.wait(&input.Caller, "access")
	return s.RawFileSystem.Access(cancel, input)
}

func (s *slow) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	s.wait(&header.Caller, "getxattr")
	return s.RawFileSystem.GetXAttr(cancel, header, attr, dest)
}

func (s *slow) ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	s.wait(&header.Caller, "listxattr")
	return s.RawFileSystem.ListXAttr(cancel, header, dest)
}

func (s *slow) SetXAttr(cancel <-chan struct{}, input *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	s.wait(&input.Caller, "setxattr")
	return s.RawFileSystem.SetXAttr(cancel, input, attr, data)
}

func (s *slow) RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string) fuse.Status {
	s.wait(&header.Caller, "removexattr")
	return s.RawFileSystem.RemoveXAttr(cancel, header, attr)
}

func (s *slow) Read(cancel <-chan struct{}, input *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	s.wait(&input.Caller, "read")
	return s.RawFileSystem.Read(cancel, input, buf)
}

func (s *slow) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	s.wait(&in.Caller, "lseek")
	return s.RawFileSystem.Lseek(cancel, in, out)
}

func (s *slow) GetLk(cancel <-chan struct{}, input *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	s.wait(&input.Caller, "getlk")
	return s.RawFileSystem.GetLk(cancel, input, out)
}

func (s *slow) SetLk(cancel <-chan struct{}, input *fuse.LkIn) fuse.Status {
	s.wait(&input.Caller, "setlk")
	return s.RawFileSystem.SetLk(cancel, input)
}

func (s *slow) SetLkw(cancel <-chan struct{}, input *fuse.LkIn) fuse.Status {
	s.wait(&input.Caller, "setlkw")
	return s.RawFileSystem.SetLkw(cancel, input)
}

func (s *slow) Release(cancel <-chan struct{}, input *fuse.ReleaseIn) {
	s.wait(&input.Caller, "release")
	s.RawFileSystem.Release(cancel, input)
}

func (s *slow) Write(cancel <-chan struct{}, input *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	s.wait(&input.Caller, "write")
	return s.RawFileSystem.Write(cancel, input, data)
}

func (s *slow) CopyFileRange(cancel <-chan struct{}, input *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	s.wait(&input.Caller, "copyfilerange")
	return s.RawFileSystem.CopyFileRange(cancel, input)
}

func (s *slow) Flush(cancel <-chan struct{}, input *fuse.FlushIn) fuse.Status {
	if s.flush {
		s.wait(&input.Caller, "flush")
	}
	return s.RawFileSystem.Flush(cancel, input)
}

func (s *slow) Fsync(cancel <-chan struct{}, input *fuse.FsyncIn) fuse.Status {
	s.wait(&input.Caller, "fsync")
	return s.RawFileSystem.Fsync(cancel, input)
}

func (s *slow) Fallocate(cancel <-chan struct{}, input *fuse.FallocateIn) fuse.Status {
	s.wait(&input.Caller, "fallocate")
	return s.RawFileSystem.Fallocate(cancel, input)
}

func (s *slow) OpenDir(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	s.wait(&input.Caller, "opendir")
	return s.RawFileSystem.OpenDir(cancel, input, out)
}

func (s *slow) ReadDir(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	s.wait(&input.Caller, "readdir")
	return s.RawFileSystem.ReadDir(cancel, input, out)
}

func (s *slow) ReadDirPlus(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	s.wait(&input.Caller, "readdirplus")
	return s.RawFileSystem.ReadDirPlus(cancel, input, out)
}

func (s *slow) ReleaseDir(input *fuse.ReleaseIn) {
	s.wait(&input.Caller, "releasedir")
	s.RawFileSystem.ReleaseDir(input)
}

func (s *slow) FsyncDir(cancel <-chan struct{}, input *fuse.FsyncIn) fuse.Status {
	s.wait(&input.Caller, "fsyncdir")
	return s.RawFileSystem.FsyncDir(cancel, input)
}

func (s *slow) StatFs(cancel <-chan struct{}, input *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s.wait(&input.Caller, "statfs")
	return s.RawFileSystem.StatFs(cancel, input, out)
}

func (s *slow) Statx(cancel <-chan struct{}, input *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	s.wait(&input.Caller, "statx")
	return s.RawFileSystem.Statx(cancel, input, out)
}

func (s *slow) Ioctl(cancel <-chan struct{}, input *fuse.IoctlIn, in []byte, output *fuse.IoctlOut, out []byte) fuse.Status {
	s.wait(&input.Caller, "ioctl")
	return s.RawFileSystem.Ioctl(cancel, input, in, output, out)
}

func (s *slow) Create(cancel <-chan struct{}, input *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	s.wait(&input.Caller, "create")
	status := s.RawFileSystem.Create(cancel, input, name, out)
	ask(&out.OpenOut)
	return s.made(input.NodeId, status)
}

func (s *slow) Open(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	s.wait(&input.Caller, "open")
	status := s.RawFileSystem.Open(cancel, input, out)
	ask(out)
	return status
}

// ask keeps the kernel from reading and writing the file below by itself.
func ask(out *fuse.OpenOut) {
	out.OpenFlags &^= fuse.FOPEN_PASSTHROUGH
	out.BackingID = 0
}
