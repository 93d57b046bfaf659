/* http.c - the server: binding, accepting, telling HTTP/1.1 from HTTP/2, routing, stopping. */
#include "shared/http/http.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/http/internal.h"
#include "shared/platform/clock.h"

#define BACKLOG 512
#define CLOSE_MS 500 /* after the grace, for sockets to notice */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_SIZE (sizeof preface - 1)

/* ---- routing ---- */

void http_route(struct http_server *server, const char *method, const char *path,
                http_handler *handler, void *context)
{
    CHECK(!server->running);
    CHECK(server->route_count < HTTP_ROUTE_MAX);
    size_t size = strlen(path);
    bool prefix = size > 0 && path[size - 1] == '*';
    server->routes[server->route_count++] = (struct http_route){.method = method,
                                                                .path = path,
                                                                .size = prefix ? size - 1 : size,
                                                                .prefix = prefix,
                                                                .handler = handler,
                                                                .context = context};
}

void http_dispatch(struct http_server *server, struct http_request *request)
{
    size_t size = strlen(request->path);
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    const struct http_route *best = NULL;
    bool other_method = false;
    for (size_t i = 0; i < server->route_count; i++) {
        const struct http_route *route = &server->routes[i];
        if (route->prefix ? size < route->size : size != route->size) {
            continue;
        }
        if (memcmp(request->path, route->path, route->size) != 0) {
            continue;
        }
        if (route->method != NULL && strcmp(route->method, method) != 0) {
            other_method = true;
            continue;
        }
        if (best == NULL || route->size > best->size || (best->prefix && !route->prefix)) {
            best = route;
        }
    }
    if (best != NULL) {
        best->handler(best->context, request);
    } else if (other_method) {
        http_reply_error(request, 405, "invalid_request_error", "method not allowed here");
    } else {
        http_reply_error(request, 404, "invalid_request_error", "no such page");
    }
}

/* ---- accepting ---- */

void http_connection_closed(void *data)
{
    struct http_connection *connection = data;
    connection->server->connection_count--;
    h2o_linklist_unlink(&connection->link);
    free(connection);
}

static void on_sniff(h2o_socket_t *socket, const char *err)
{
    struct http_connection *connection = socket->data;
    size_t size = socket->input->size;
    if (err != NULL) {
        h2o_socket_close(socket);
        return;
    }
    size_t known = size < PREFACE_SIZE ? size : PREFACE_SIZE;
    bool may_be_2 = memcmp(socket->input->bytes, preface, known) == 0;
    if (may_be_2 && known < PREFACE_SIZE) {
        return;
    }
    h2o_socket_read_stop(socket);
    if (may_be_2) {
        http2_accept(connection);
    } else {
        http1_accept(connection);
    }
}

static void on_handshake(h2o_socket_t *socket, const char *err)
{
    struct http_connection *connection = socket->data;
    if (err != NULL) {
        h2o_socket_close(socket);
        return;
    }
    h2o_iovec_t protocol = h2o_socket_ssl_get_selected_protocol(socket);
    if (h2o_memis(protocol.base, protocol.len, H2O_STRLIT("h2"))) {
        http2_accept(connection);
    } else {
        http1_accept(connection);
    }
}

static void name_peer(struct http_connection *connection)
{
    struct sockaddr_storage address;
    char host[NI_MAXHOST];
    socklen_t size = h2o_socket_getpeername(connection->socket, (void *)&address);
    size_t length = size == 0 ? SIZE_MAX : h2o_socket_getnumerichost((void *)&address, size, host);
    if (length != SIZE_MAX) {
        (void)snprintf(connection->peer, sizeof connection->peer, "%.*s:%d",
                       (int)(length < 64 ? length : 64), host,
                       (int)h2o_socket_getport((void *)&address));
    }
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct http_server *server = listener->data;
    h2o_socket_t *socket = err == NULL ? h2o_evloop_socket_accept(listener) : NULL;
    if (socket == NULL) {
        return;
    }
    struct http_connection *connection = NULL;
    if (server->connection_count < server->options.connection_max) {
        connection = calloc(1, sizeof *connection);
    }
    if (connection == NULL) {
        h2o_socket_close(socket);
        return;
    }
    int on = 1;
    unsigned patience_ms = server->options.idle_ms;
    (void)setsockopt(h2o_socket_get_fd(socket), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(h2o_socket_get_fd(socket), IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms,
                     sizeof patience_ms);
    connection->server = server;
    connection->socket = socket;
    connection->since_ms = clock_mono_ms();
    server->connection_count++;
    h2o_linklist_insert(&server->connections, &connection->link);
    socket->data = connection;
    socket->on_close.cb = http_connection_closed;
    socket->on_close.data = connection;
    name_peer(connection);
    if (server->tls != NULL) {
        h2o_socket_ssl_handshake(socket, server->tls, NULL, on_handshake);
    } else {
        h2o_socket_read_start(socket, on_sniff);
    }
}

static void on_tick(h2o_timeout_entry_t *entry)
{
    struct http_server *server = H2O_STRUCT_FROM_MEMBER(struct http_server, tick_entry, entry);
    uint64_t now_ms = clock_mono_ms();
    for (h2o_linklist_t *at = server->connections.next; at != &server->connections;) {
        struct http_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct http_connection, link, at);
        at = at->next; /* either call below may free connection */
        if (connection->state == HTTP_SPEAKS_2) {
            http2_tick(connection, now_ms);
        } else if (connection->state == HTTP_SNIFFING &&
                   connection->since_ms + server->options.request_ms < now_ms) {
            h2o_socket_close(connection->socket);
        }
    }
    h2o_timeout_link(server->context.loop, &server->tick, entry);
}

static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    while (!h2o_linklist_is_empty(messages)) {
        struct http_request *request =
            H2O_STRUCT_FROM_MEMBER(struct http_request, message.link, messages->next);
        h2o_linklist_unlink(&request->message.link);
        pthread_mutex_lock(&request->lock);
        request->kicked = false;
        bool attached = request->attached;
        pthread_mutex_unlock(&request->lock);
        if (attached) {
            request->transport->pump(request);
        }
        http_request_release(request);
    }
}

/* ---- life ---- */

static bool stop_wanted(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    bool stopping = server->stopping;
    pthread_mutex_unlock(&server->lock);
    return stopping;
}

static void run_until(struct http_server *server, uint64_t end_ms)
{
    while (server->connection_count > 0 && clock_mono_ms() < end_ms) {
        (void)h2o_evloop_run(server->context.loop, 20);
    }
}

/* Stops listening, lets requests end, then breaks off what is left. */
static void wind_down(struct http_server *server)
{
    h2o_socket_read_stop(server->listener);
    h2o_socket_close(server->listener);
    for (h2o_linklist_t *at = server->connections.next; at != &server->connections;) {
        struct http_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct http_connection, link, at);
        at = at->next;
        if (connection->state == HTTP_SPEAKS_2) {
            http2_goaway(connection);
        }
    }
    uint64_t end_ms = clock_mono_ms() + server->grace_ms;
    while (!h2o_linklist_is_empty(&server->requests) && clock_mono_ms() < end_ms) {
        (void)h2o_evloop_run(server->context.loop, 20);
    }
    for (h2o_linklist_t *at = server->connections.next; at != &server->connections;) {
        struct http_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct http_connection, link, at);
        at = at->next;
        if (connection->state == HTTP_SPEAKS_2) {
            http2_close(connection);
        } else {
            (void)shutdown(h2o_socket_get_fd(connection->socket), SHUT_RDWR);
        }
    }
    run_until(server, clock_mono_ms() + CLOSE_MS);
    while (!h2o_linklist_is_empty(&server->requests)) {
        struct http_request *request =
            H2O_STRUCT_FROM_MEMBER(struct http_request, link, server->requests.next);
        http_request_detach(request, false);
    }
    (void)h2o_evloop_run(server->context.loop, 0); /* messages on their way */
}

static void run(void *argument)
{
    struct http_server *server = argument;
    h2o_loop_t *loop = h2o_evloop_create();
    http1_setup(server);
    http2_setup(server);
    h2o_context_init(&server->context, loop, &server->config);
    server->accept = (h2o_accept_ctx_t){.ctx = &server->context, .hosts = server->config.hosts};
    h2o_multithread_register_receiver(server->context.queue, &server->receiver, on_messages);
    h2o_linklist_init_anchor(&server->connections);
    h2o_linklist_init_anchor(&server->requests);
    h2o_timeout_init(loop, &server->tick, HTTP_TICK_MS);
    server->tick_entry.cb = on_tick;
    h2o_timeout_link(loop, &server->tick, &server->tick_entry);
    server->listener = h2o_evloop_socket_create(loop, server->fd, H2O_SOCKET_FLAG_DONT_READ);
    server->listener->data = server;
    h2o_socket_read_start(server->listener, on_accept);
    pthread_mutex_lock(&server->lock);
    server->running = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    while (!stop_wanted(server)) {
        (void)h2o_evloop_run(loop, 100); /* -1 with EINTR: look again */
    }
    wind_down(server);
    h2o_timeout_unlink(&server->tick_entry);
    h2o_timeout_dispose(loop, &server->tick);
    h2o_multithread_unregister_receiver(server->context.queue, &server->receiver);
    if (server->connection_count == 0) {
        h2o_context_dispose(&server->context);
        h2o_config_dispose(&server->config);
        h2o_evloop_destroy(loop);
    } /* else a handler still holds an HTTP/1.1 request that h2o cannot give up: the process ends */
    nghttp2_session_callbacks_del(server->callbacks);
    nghttp2_option_del(server->h2_options);
}

static enum err bind_address(const char *address, int *out_fd, uint16_t *out_port,
                             struct note *note)
{
    const char *colon = strrchr(address, ':');
    char host[256];
    if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
        return note_set(note, ERR_INVALID, "http address '%s': want host:port", address);
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host[0] == '\0' ? NULL : host, colon + 1, &hints, &found);
    if (code != 0) {
        return note_set(note, ERR_INVALID, "http address '%s': %s", address, gai_strerror(code));
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    struct sockaddr_storage bound;
    socklen_t bound_size = sizeof bound;
    enum err err = ERR_OK;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (void *)&bound, &bound_size) != 0) {
        err = note_set(note, ERR_IO, "could not listen on %s: %s", address, strerrordesc_np(errno));
        if (fd >= 0) {
            close(fd);
        }
    } else {
        *out_fd = fd;
        *out_port = (uint16_t)h2o_socket_getport((void *)&bound);
    }
    freeaddrinfo(found);
    return err;
}

static enum err load_tls(struct http_server *server, struct note *note)
{
    const struct http_options *options = &server->options;
    if (options->cert_file == NULL || options->cert_file[0] == '\0') {
        return ERR_OK;
    }
    static const h2o_iovec_t protocols[] = {
        {(char *)(uintptr_t) "h2", 2}, {(char *)(uintptr_t) "http/1.1", 8}, {NULL, 0}};
    server->tls = SSL_CTX_new(TLS_server_method());
    if (server->tls == NULL || SSL_CTX_set_min_proto_version(server->tls, TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(server->tls, options->cert_file) != 1 ||
        SSL_CTX_use_PrivateKey_file(server->tls, options->key_file, SSL_FILETYPE_PEM) != 1) {
        return note_set(note, ERR_INVALID, "certificate %s: %s", options->cert_file,
                        ERR_reason_error_string(ERR_get_error()));
    }
    h2o_ssl_register_alpn_protocols(server->tls, protocols);
    return ERR_OK;
}

enum err http_open(const struct http_options *options, struct http_server **out_server,
                   struct note *note)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return ERR_NO_MEMORY;
    }
    server->fd = -1;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    server->options = *options;
    if (server->options.body_max == 0) {
        server->options.body_max = 4U << 20;
    }
    if (server->options.connection_max == 0) {
        server->options.connection_max = 1000;
    }
    if (server->options.request_ms == 0) {
        server->options.request_ms = 10000;
    }
    if (server->options.idle_ms == 0) {
        server->options.idle_ms = 120000;
    }
    enum err err = load_tls(server, note);
    if (err == ERR_OK) {
        err = bind_address(options->address, &server->fd, &server->port, note);
    }
    if (err != ERR_OK) {
        http_close(server, 0);
        return err;
    }
    *out_server = server;
    return ERR_OK;
}

enum err http_start(struct http_server *server)
{
    enum err err = thread_start("http", run, server, &server->thread, NULL);
    if (err == ERR_OK) {
        pthread_mutex_lock(&server->lock);
        while (!server->running) {
            pthread_cond_wait(&server->changed, &server->lock);
        }
        pthread_mutex_unlock(&server->lock);
    }
    return err;
}

uint16_t http_port(const struct http_server *server)
{
    return server->port;
}

void http_close(struct http_server *server, uint32_t grace_ms)
{
    if (server == NULL) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    server->grace_ms = grace_ms;
    pthread_mutex_unlock(&server->lock);
    if (server->thread != NULL) {
        thread_join(server->thread); /* the loop looks at least every 100 ms */
    } else if (server->fd >= 0) {
        close(server->fd);
    }
    if (server->tls != NULL) {
        SSL_CTX_free(server->tls);
    }
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
