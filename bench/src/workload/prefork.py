"""A prefork server in small: the parent loads data and forks workers, which look at it for each request."""

import os
import socket
import sys

requests = int(sys.argv[1])
data = [str(number) for number in range(400_000)]
client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

workers = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        client.close()
        while request := server.recv(16):
            first = int(request) * 200 % len(data)
            # Reading an object counts a reference to it, which is a write to its page.
            server.send(str(sum(map(len, data[first : first + 200]))).encode())
        os._exit(0)
    workers.append(pid)

server.close()
for number in range(requests):
    client.send(str(number).encode())
    client.recv(16)
client.close()
for pid in workers:
    os.waitpid(pid, 0)
