/* A preload library that writes down whom a process talks to: one line for each connect, send or name look-up.
 *
 *   gcc -shared -fPIC -o network_trace.so network_trace.c -ldl
 *   NETWORK_TRACE_LOG=log LD_PRELOAD=./network_trace.so program
 *
 * It sees what Python's sockets do and what native code does through the C library; tests/network_trace.py
 * builds it, reads the lines, and holds the control that proves it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *target, int port) {
    int kept = errno;
    const char *path = getenv("NETWORK_TRACE_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (log >= 0) {
        char line[400];
        int length = snprintf(line, sizeof line, "%s %d %.300s\n", what, port, target);
        if (write(log, line, (size_t)length) < 0) { /* nothing to be done about it */ }
        close(log);
    }
    errno = kept;
}

static void note_address(const char *what, const struct sockaddr *address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address == NULL) return;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        note(what, text, ntohs(in->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        note(what, text, ntohs(in6->sin6_port));
    }
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    note_address("connect", address);
    return NEXT(connect)(fd, address, length);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    note_address("send", address);
    return NEXT(sendto)(fd, data, size, flags, address, length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    note_address("send", message->msg_name);
    return NEXT(sendmsg)(fd, message, flags);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    for (unsigned int i = 0; i < count; i++) note_address("send", messages[i].msg_hdr.msg_name);
    return NEXT(sendmmsg)(fd, messages, count, flags);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    if (node != NULL) note("lookup", node, 0);
    return NEXT(getaddrinfo)(node, service, hints, result);
}

int getaddrinfo_a(int mode, struct gaicb *list[], int count, struct sigevent *event) {
    for (int i = 0; i < count; i++)
        if (list[i] != NULL && list[i]->ar_name != NULL) note("lookup", list[i]->ar_name, 0);
    return NEXT(getaddrinfo_a)(mode, list, count, event);
}

struct hostent *gethostbyname(const char *name) {
    note("lookup", name, 0);
    return NEXT(gethostbyname)(name);
}

struct hostent *gethostbyname2(const char *name, int family) {
    note("lookup", name, 0);
    return NEXT(gethostbyname2)(name, family);
}

int gethostbyname_r(const char *name, struct hostent *entry, char *buffer, size_t size, struct hostent **result,
                    int *error) {
    note("lookup", name, 0);
    return NEXT(gethostbyname_r)(name, entry, buffer, size, result, error);
}

int gethostbyname2_r(const char *name, int family, struct hostent *entry, char *buffer, size_t size,
                     struct hostent **result, int *error) {
    note("lookup", name, 0);
    return NEXT(gethostbyname2_r)(name, family, entry, buffer, size, result, error);
}
