/*
 * Lists the pages that fork+exit, fork+exec and vfork+exec of /bin/true copy, by /proc/PID/pagemap: the source of the
 * section "/bin/true, page by page" of docs/cow.md.
 *
 *   cc -O2 -o pages tests/pages/pages.c
 *   for how in fork fork-exec vfork-exec; do
 *     setarch -R ./pages show $how                        # as root: the pages
 *     tracer run --output - -- setarch -R ./pages $how    # the counts
 *   done
 *
 * A process is looked at when it forks, before and after its exec, and at its exit, held there by ptrace, which touches
 * none of its pages.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 4096 };

/* A private page that is not a file's: its address, frame and place. */
struct page {
	unsigned long address;
	uint64_t frame;
	char place[160];
};

struct pages {
	int count;
	struct page page[MOST];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void look(int pid, struct pages *pages)
{
	char path[64], line[512];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	int pagemap = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	FILE *maps = fopen(path, "r");
	if (pagemap < 0 || !maps)
		die(path);
	pages->count = 0;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, offset;
		char mode[8], file[256] = "";

		if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255s", &start, &end, mode, &offset, file) < 4)
			continue;
		if (mode[3] != 'p' || !strncmp(file, "[v", 2))
			continue;
		for (unsigned long at = start; at < end; at += PAGE) {
			uint64_t entry = 0;

			if (pread(pagemap, &entry, 8, at / PAGE * 8) != 8)
				die("pagemap");
			/* Not present, or of a file (Documentation/admin-guide/mm/pagemap.rst). */
			if (!(entry >> 63) || entry >> 61 & 1)
				continue;
			if (pages->count == MOST)
				exit(1);
			struct page *page = &pages->page[pages->count++];
			const char *name = strrchr(file, '/');

			page->address = at;
			page->frame = entry & ((1ULL << 55) - 1);
			snprintf(page->place, sizeof(page->place), "%s %s, offset %#lx",
				 name ? name + 1 : *file ? file : "anonymous", mode,
				 *file == '/' ? offset + (at - start) : at - start);
		}
	}
	fclose(maps);
	close(pagemap);
}

/* The pages of `now` that have another frame than in `before`, or had none. */
static void show(const char *what, const struct pages *before, const struct pages *now)
{
	printf("%s\n", what);
	for (int i = 0; i < now->count; i++) {
		const struct page *page = &now->page[i];
		const char *how = "new";

		for (int j = 0; j < before->count; j++)
			if (before->page[j].address == page->address)
				how = before->page[j].frame == page->frame ? NULL : "copied";
		if (how)
			printf("  %12lx %-7s %s\n", page->address, how, page->place);
	}
}

static __attribute__((noinline)) int watch(char **command)
{
	static struct pages none, at_fork, loaded, now;
	int status, child = 0, executed = 0;
	int root = fork();

	if (!root) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(command[0], command);
		die(command[0]);
	}
	waitpid(root, &status, 0);
	if (ptrace(PTRACE_SETOPTIONS, root, 0,
		   PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
			   PTRACE_O_TRACEEXIT | PTRACE_O_TRACESYSGOOD))
		die("ptrace");
	ptrace(PTRACE_CONT, root, 0, 0);
	for (int pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		int event = status >> 16;
		unsigned long message;
		struct user_regs_struct regs;

		if (!WIFSTOPPED(status))
			continue;
		if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK) {
			ptrace(PTRACE_GETEVENTMSG, pid, 0, &message);
			child = message;
			look(root, &at_fork);
		} else if (pid == child && event == PTRACE_EVENT_EXEC) {
			executed = 1;
			look(child, &loaded);
			show("child, new program loaded", &none, &loaded);
		} else if (pid == child && event == PTRACE_EVENT_EXIT) {
			look(child, &now);
			show(executed ? "child, from there to its exit" : "child, from fork to exit",
			     executed ? &loaded : &at_fork, &now);
		} else if (pid == root && event == PTRACE_EVENT_EXIT) {
			look(root, &now);
			show("parent, from fork to exit", &at_fork, &now);
		} else if (pid == child && !executed && WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			ptrace(PTRACE_GETREGS, child, 0, &regs);
			if (regs.orig_rax == SYS_execve) {
				look(child, &now);
				show("child, from fork to exec", &at_fork, &now);
				executed = 1;
			}
		}
		ptrace(pid == child && !executed ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, 0);
	}
	return 0;
}

int main(int argc, char **argv)
{
	char *program[] = { "true", NULL }, *none[] = { NULL };
	pid_t child;

	if (argc == 3 && !strcmp(argv[1], "show")) {
		char *command[] = { argv[0], argv[2], NULL };
		return watch(command);
	}
	if (argc != 2)
		return 2;
	child = *argv[1] == 'v' ? vfork() : fork();
	if (!child) {
		if (strchr(argv[1], '-'))
			execve("/bin/true", program, none);
		_exit(0);
	}
	_exit(waitpid(child, NULL, 0) < 0);
}
