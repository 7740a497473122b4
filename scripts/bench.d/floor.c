/* floor: the least that any runtime must ask of the kernel for `run /bin/true` with the runtime-spec default config.
 * One clone3 into six new namespaces and a new cgroup, the default mounts, devices, masked and read-only paths,
 * pivot_root, the default capabilities, execve, wait, rmdir. No JSON, no state, no checks a runtime owes its users:
 * a yardstick for latency, not a runtime. Every step must succeed, or it exits 1 naming the step.
 *
 * build: gcc -O2 -static -o floor floor.c      use (root, cgroup2 at $CGROUP, by default /sys/fs/cgroup):
 * floor ROOTFS [NAME]      NAME is the cgroup's
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(call) do { if ((call) < 0) { dprintf(2, "floor: %s: %s\n", #call, strerror(errno)); _exit(1); } } while (0)

static void inside(const char *rootfs) {
    MUST(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0));
    MUST(mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0));
    MUST(chdir(rootfs));
    MUST(mount("proc", "proc", "proc", 0, 0));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mkdir("dev/shm", 0755));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0));
    MUST(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0));
    MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0));
    static const struct { const char *path; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    for (int i = 0; i < 6; i++) MUST(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
    static const char *links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
                                     {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    for (int i = 0; i < 5; i++) MUST(symlink(links[i][0], links[i][1]));
    static const char *masked[] = {"proc/kcore", "proc/keys", "proc/timer_list"};
    for (int i = 0; i < 3; i++)
        if (mount("/dev/null", masked[i], 0, MS_BIND, 0) < 0 && errno != ENOENT) MUST(-1);
    static const char *readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    for (int i = 0; i < 5; i++) {
        if (mount(readonly[i], readonly[i], 0, MS_BIND | MS_REC, 0) < 0) {
            if (errno == ENOENT) continue;
            MUST(-1);
        }
        MUST(mount(0, readonly[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
    }
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    MUST(sethostname("floor", 5));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    const unsigned keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
    for (int cap = 0; cap <= CAP_CHECKPOINT_RESTORE; cap++)
        if (cap > 31 || !(keep >> cap & 1)) MUST(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{keep, keep, 0}, {0, 0, 0}};
    MUST(syscall(SYS_capset, &header, data));
    char *argv[] = {"/bin/true", 0}, *envp[] = {"PATH=/bin", 0};
    MUST(execve(argv[0], argv, envp));
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) return fputs("use: floor ROOTFS [NAME]\n", stderr), 2;
    char cgroup[256];
    const char *top = getenv("CGROUP") ? getenv("CGROUP") : "/sys/fs/cgroup";
    if (argc == 3) snprintf(cgroup, sizeof cgroup, "%s/%s", top, argv[2]);
    else snprintf(cgroup, sizeof cgroup, "%s/floor-%d", top, getpid());
    MUST(mkdir(cgroup, 0755));
    int fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
    MUST(fd);
    struct clone_args args = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET | CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD, .cgroup = fd};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    MUST(pid);
    if (pid == 0) inside(argv[1]);
    int status;
    MUST(waitpid(pid, &status, 0));
    MUST(rmdir(cgroup));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
