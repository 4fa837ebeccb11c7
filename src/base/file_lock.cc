#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

namespace pcache {

int try_lock_exclusively(int fd, bool is_char_device) {
  struct flock whole {};
  // Which kind of lock a descriptor may take follows from what it may do; the first kind excludes other readers.
  whole.l_type = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY ? F_RDLCK : F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && (is_char_device || fcntl(fd, F_OFD_SETLK, &whole) == 0)) return 0;
  return errno == EAGAIN || errno == EACCES ? EWOULDBLOCK : errno;
}

}  // namespace pcache
