package streaming_lakehouse;

import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/**
 * Delta's log on a local disk, listed by name: only the files that are asked for are looked at.
 *
 * Delta asks for the commits after a version before each batch, and a stream that waits does so ten times a second.
 * Hadoop's file system would look at every file of the log each time, 14,000 after an hour of one commit a second.
 */
public class LocalLogStore extends io.delta.storage.LocalLogStore {
  public LocalLogStore(Configuration configuration) {
    super(configuration);
  }

  public Iterator<FileStatus> listFrom(Path path, Configuration configuration) throws IOException {
    Path log = path.getParent();
    FileSystem files = path.getFileSystem(configuration);
    String[] names = new File(log.toUri().getPath()).list();
    if (names == null) {
      files.getFileStatus(log); // says why: it does not exist, or what is above it is no folder
      throw new FileNotFoundException("No such file or directory: " + log);
    }
    List<String> wanted = new ArrayList<String>();
    for (String name : names) {
      if (name.compareTo(path.getName()) >= 0) {
        wanted.add(name);
      }
    }
    Collections.sort(wanted);
    List<FileStatus> found = new ArrayList<FileStatus>();
    for (String name : wanted) {
      try {
        found.add(files.getFileStatus(new Path(log, name)));
      } catch (FileNotFoundException e) {
        // Removed since it was listed: a temporary file, or an old commit.
      }
    }
    return found.iterator();
  }
}
