#include "relay/admin/admin.hpp"

#include <openssl/crypto.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/json.hpp>
#include <charconv>
#include <set>
#include <stdexcept>

#include "relay/admin/api.hpp"
#include "relay/reputation/readiness.hpp"
#include "relay/runtime/log.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace json = boost::json;
using asio::ip::tcp;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

constexpr auto request_timeout = std::chrono::seconds(30);

struct Answer {
  http::status status = http::status::ok;
  std::string body;
  std::string type = "application/json";
};

Answer answer(const json::value& value) {
  return {http::status::ok, json::serialize(value) + "\n"};
}
Answer problem(http::status status, std::string text) {
  return {status, json::serialize(json::object{{"error", std::move(text)}}) + "\n"};
}

/// %-escapes undone.
std::string unescape(std::string_view raw) {
  std::string out;
  for (std::size_t i = 0; i < raw.size(); ++i) {
    unsigned value = 0;
    if (raw[i] == '%' && i + 2 < raw.size() && std::from_chars(&raw[i + 1], &raw[i + 3], value, 16).ptr == &raw[i + 3]) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += raw[i];
    }
  }
  return out;
}

/// "limit=10&state=held" -> the value of one key, %-escapes undone.
std::string parameter(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    const std::size_t equals = pair.find('=');
    if (pair.substr(0, equals) != key) continue;
    return unescape(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1));
  }
  return {};
}

bool has_parameter(std::string_view query, std::string_view key) {
  return query == key || query.starts_with(std::string(key) + "&") || query.starts_with(std::string(key) + "=") ||
         query.find("&" + std::string(key)) != std::string_view::npos;
}

std::size_t number_of(std::string_view query, std::string_view key, std::size_t otherwise) {
  const std::string text = parameter(query, key);
  std::size_t value = otherwise;
  if (!text.empty()) std::from_chars(text.data(), text.data() + text.size(), value);
  return std::min<std::size_t>(value, 10'000);
}

std::size_t limit_of(std::string_view query, std::size_t otherwise) {
  return number_of(query, "limit", otherwise);
}

}  // namespace

class AdminServer::Impl {
 public:
  Impl(const asio::any_io_executor& executor, AdminContext context)
      : executor_(executor), context_(std::move(context)), tasks_(executor) {}

  void open(InheritedSockets& inherited) {
    const auto& admin = context_.config->admin;
    const tcp::endpoint endpoint(asio::ip::make_address(admin.ip.to_string()), admin.port);
    boost::system::error_code error;
    const auto check = [&] {
      if (error) throw std::runtime_error("cannot listen on " + admin.address + " (admin): " + error.message());
    };
    acceptors_ = inherited.take(executor_, admin.ip, admin.port);
    if (!acceptors_.empty()) return;
    tcp::acceptor& acceptor = acceptors_.emplace_back(executor_);
    acceptor.open(endpoint.protocol(), error);
    check();
    acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    acceptor.bind(endpoint, error);
    check();
    acceptor.listen(128, error);
    check();
  }

  void configure(std::shared_ptr<const config::Config> config) { context_.config = std::move(config); }

  void start() {
    for (auto& acceptor : acceptors_) tasks_.spawn(accept(&acceptor), "admin listener");
  }

  asio::awaitable<void> stop() {
    stopping_ = true;
    boost::system::error_code ignored;
    for (auto& acceptor : acceptors_) acceptor.close(ignored);
    for (auto* stream : streams_) stream->socket().close(ignored);
    for (auto* timer : followers_) timer->cancel();
    co_await tasks_.wait();
  }

  asio::awaitable<std::vector<int>> stop_and_release() {
    accepting_ = false;
    boost::system::error_code ignored;
    for (auto& acceptor : acceptors_) acceptor.cancel(ignored);
    asio::steady_timer tick(executor_);
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    do {
      tick.expires_after(std::chrono::milliseconds(5));
      co_await tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    } while (busy_ > 0 && std::chrono::steady_clock::now() < until);
    std::vector<int> out;
    for (auto& acceptor : acceptors_)
      if (acceptor.is_open()) out.push_back(acceptor.release(ignored));
    co_await stop();
    co_return out;
  }

 private:
  asio::awaitable<void> accept(tcp::acceptor* acceptor) {
    while (accepting_ && !stopping_) {
      boost::system::error_code error;
      tcp::socket socket = co_await acceptor->async_accept(asio::redirect_error(asio::use_awaitable, error));
      if (stopping_ || (error && !accepting_)) break;
      if (error) {
        asio::steady_timer pause(executor_, std::chrono::milliseconds(100));
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      } else if (streams_.size() < 200) {
        ++busy_;
        tasks_.spawn(serve(std::move(socket)), "admin");
      }
    }
  }

  asio::awaitable<void> serve(tcp::socket socket) {
    beast::tcp_stream stream(std::move(socket));
    streams_.insert(&stream);
    beast::flat_buffer buffer;
    boost::system::error_code error;
    const std::string client = stream.socket().remote_endpoint(error).address().to_string();
    Busy busy(busy_);  // from the beginning: who connects is about to ask
    while (!error && !stopping_) {
      http::request_parser<http::string_body> parser;
      parser.header_limit(16 * 1024);
      parser.body_limit(1024 * 1024);
      stream.expires_after(request_timeout);
      co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
      if (error) break;
      busy.set(true);
      const Request request = parser.release();
      const std::string_view target(request.target().data(), request.target().size());
      if (target.starts_with("/api/v1/events?") && has_parameter(target.substr(15), "follow") && authorized(request)) {
        busy.set(false);
        co_await follow(stream);
        break;
      }
      Answer result = co_await handle(request, client);
      Response response(result.status, request.version());
      response.set(http::field::content_type, result.type);
      response.set(http::field::cache_control, "no-store");
      response.body() = std::move(result.body);
      response.keep_alive(request.keep_alive());
      response.prepare_payload();
      stream.expires_after(request_timeout);
      co_await http::async_write(stream, response, asio::redirect_error(asio::use_awaitable, error));
      if (!request.keep_alive()) break;
      busy.set(false);
    }
    streams_.erase(&stream);
    stream.socket().shutdown(tcp::socket::shutdown_both, error);
  }

  bool authorized(const Request& request) const {
    const std::string& token = context_.config->admin.token;
    if (token.empty()) return true;
    const std::string expected = "Bearer " + token;
    const auto given = request[http::field::authorization];
    return given.size() == expected.size() && CRYPTO_memcmp(given.data(), expected.data(), expected.size()) == 0;
  }

  asio::awaitable<Answer> handle(const Request& request, std::string client) {
    const std::string_view target(request.target().data(), request.target().size());
    const std::size_t mark = target.find('?');
    const std::string path(target.substr(0, mark));
    const std::string query(mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1));
    if (path == "/healthz") co_return Answer{http::status::ok, "ok\n", "text/plain"};
    if (path == "/readyz") co_return readiness();
    if (!authorized(request)) co_return problem(http::status::unauthorized, "a bearer token is required");
    if (request.method() == http::verb::get) co_return co_await get(path, query);
    if (request.method() == http::verb::post) co_return co_await post(path, request.body(), client);
    co_return problem(http::status::method_not_allowed, "GET or POST");
  }

  Answer readiness() const {
    if (!context_.ready()) return {http::status::service_unavailable, "not ready\n", "text/plain"};
    if (context_.spool.trouble() != spool::Trouble::none)
      return {http::status::service_unavailable, "spool: " + context_.spool.trouble_text() + "\n", "text/plain"};
    return {http::status::ok, "ready\n", "text/plain"};
  }

  asio::awaitable<Answer> get(std::string path, std::string query) {
    if (path == "/metrics") {
      std::string text = co_await api::metrics(context_);
      co_return Answer{http::status::ok, std::move(text), "text/plain; version=0.0.4"};
    }
    if (path == "/api/v1/sources") co_return answer(api::sources(context_));
    if (path == "/api/v1/pools") co_return answer(api::pools(context_));
    if (path == "/api/v1/smarthosts") co_return answer(api::smarthosts(context_));
    if (path == "/api/v1/senders") co_return answer(api::senders(context_));
    if (path == "/api/v1/users") co_return answer(api::users(context_, limit_of(query, 1000)));
    if (path == "/api/v1/senders/top") {
      const json::value value =
          api::top_senders(context_, parameter(query, "by"), number_of(query, "hours", 24), limit_of(query, 20));
      if (value.as_object().contains("error")) co_return Answer{http::status::bad_request, json::serialize(value) + "\n"};
      co_return answer(value);
    }
    if (path == "/api/v1/blocklists") co_return answer(api::blocklists(context_));
    if (path == "/api/v1/events") co_return answer(api::events(context_, limit_of(query, 500)));
    if (path == "/api/v1/replies/unknown") co_return answer(api::unknown_replies(context_));
    if (path == "/api/v1/queue") {
      QueueFilter filter;
      filter.limit = limit_of(query, 100);
      filter.state = parameter(query, "state");
      const std::string name = parameter(query, "class");
      filter.message_class = context_.config->class_named(name);
      if (!name.empty() && !filter.message_class)
        co_return problem(http::status::bad_request, "class: no class is called " + name);
      const json::value value = co_await api::queue(context_, filter);
      co_return answer(value);
    }
    if (path.starts_with("/api/v1/messages/")) {
      const auto id = smtp::parse_message_id(path.substr(17));
      if (!id) co_return problem(http::status::not_found, "not a message id");
      const json::value value = co_await api::message(context_, *id);
      if (value.is_null()) co_return problem(http::status::not_found, "nothing is known of this message");
      co_return answer(value);
    }
    co_return problem(http::status::not_found, "no such resource");
  }

  asio::awaitable<Answer> post(std::string path, std::string body, std::string client) {
    boost::system::error_code error;
    const json::value request = body.empty() ? json::value(json::object{}) : json::parse(body, error);
    if (error || !request.is_object()) co_return problem(http::status::bad_request, "expected a JSON object");
    if (path == "/api/v1/route") {
      const json::value value = co_await api::route(context_, request);
      if (value.as_object().contains("error")) co_return Answer{http::status::bad_request, json::serialize(value) + "\n"};
      co_return answer(value);
    }
    if (path == "/api/v1/senders/release") {
      const std::string sender = text_of(request.as_object(), "sender");
      if (sender.empty()) co_return problem(http::status::bad_request, "sender: expected an address");
      if (!api::release_sender(context_, sender)) co_return problem(http::status::not_found, sender + " is not held");
      co_return answer(json::object{{"ok", true}});
    }
    if (path.starts_with("/api/v1/users/")) {
      const std::string rest = path.substr(14);
      const std::size_t slash = rest.rfind('/');
      const std::string action = slash == std::string::npos ? "" : rest.substr(slash + 1);
      if (action != "suspend" && action != "resume") co_return problem(http::status::not_found, "suspend or resume");
      const auto wrong = api::user_command(context_, unescape(rest.substr(0, slash)), action);
      if (wrong) co_return problem(http::status::not_found, *wrong);
      co_return answer(json::object{{"ok", true}});
    }
    if (path == "/api/v1/reload") co_return co_await reload();
    if (path == "/api/v1/upgrade") co_return co_await upgrade();
    if (path == "/api/v1/recheck") co_return recheck(request.as_object());
    if (path.starts_with("/api/v1/queue/")) {
      const json::value value = co_await api::queue_command(context_, path.substr(14), request.as_object(), client);
      if (value.is_null()) co_return problem(http::status::not_found, "retry, hold, release or cancel");
      if (value.as_object().contains("error")) co_return Answer{http::status::bad_request, json::serialize(value) + "\n"};
      co_return answer(value);
    }
    if (path.starts_with("/api/v1/sources/")) co_return drain(path.substr(16), request.as_object());
    co_return problem(http::status::not_found, "no such resource");
  }

  asio::awaitable<Answer> reload() {
    const ReloadResult result = co_await context_.reload();
    if (result.ok) co_return answer(json::object{{"ok", true}, {"restart", json::value_from(result.restart)}});
    json::array problems;
    for (const auto& p : result.problems)
      problems.push_back(
          json::object{{"file", p.file}, {"line", p.line}, {"column", p.column}, {"key", p.key}, {"text", p.text}});
    std::string first = result.problems.empty() ? "refused" : result.problems.front().to_string();
    const json::object body{{"error", std::move(first)}, {"problems", std::move(problems)}};
    co_return Answer{http::status::bad_request, json::serialize(body) + "\n"};
  }

  asio::awaitable<Answer> upgrade() {
    const UpgradeResult result = co_await context_.upgrade();
    if (!result.ok) co_return problem(http::status::bad_request, result.program + ": " + result.refusal);
    co_return answer(json::object{{"ok", true}, {"program", result.program}, {"version", result.version}});
  }

  std::optional<std::uint32_t> source_named(std::string_view name) const { return context_.config->topology.source_named(name); }

  static std::string text_of(const json::object& request, const char* key) {
    const auto* value = request.if_contains(key);
    return value && value->is_string() ? json::value_to<std::string>(*value) : std::string();
  }

  Answer recheck(const json::object& request) {
    const std::string name = text_of(request, "source");
    const auto source = source_named(name);
    if (!name.empty() && !source) return problem(http::status::not_found, "no source is called " + name);
    context_.prober->recheck(source);
    if (!source) context_.reputation.readiness().hurry(now());
    return answer(json::object{{"ok", true}});
  }

  Answer drain(const std::string& rest, const json::object& request) {
    const std::size_t slash = rest.find('/');
    const auto source = source_named(rest.substr(0, slash));
    if (!source) return problem(http::status::not_found, "no such source");
    const std::string action = slash == std::string::npos ? "" : rest.substr(slash + 1);
    const std::string provider = text_of(request, "provider");
    if (action == "drain")
      context_.reputation.fold(*source, routing::Drain{provider});
    else if (action == "resume")
      context_.reputation.fold(*source, routing::Resume{provider});
    else
      return problem(http::status::not_found, "drain or resume");
    return answer(json::object{{"ok", true}});
  }

  /// Server-sent events until the client goes away.
  asio::awaitable<void> follow(beast::tcp_stream& stream) {
    boost::system::error_code error;
    std::string pending =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";
    asio::steady_timer wake(executor_);
    followers_.insert(&wake);
    const auto subscription = context_.events.subscribe([&](const Event& event) {
      if (pending.size() < (1u << 20))
        pending += "id: " + std::to_string(event.id) + "\ndata: " + json::serialize(api::event(event)) + "\n\n";
      wake.cancel();
    });
    while (!error && !stopping_) {
      const std::string out = std::exchange(pending, {});
      stream.expires_after(request_timeout);
      co_await asio::async_write(stream, asio::buffer(out), asio::redirect_error(asio::use_awaitable, error));
      if (error || !pending.empty()) continue;
      wake.expires_after(std::chrono::seconds(15));
      boost::system::error_code woken;
      co_await wake.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      if (pending.empty()) pending = ": still here\n\n";
    }
    context_.events.unsubscribe(subscription);
    followers_.erase(&wake);
  }

  /// Whether one connection has a request under way, counted among all of them; counted already at first.
  struct Busy {
    explicit Busy(std::size_t& count) : all(count) {}
    ~Busy() { set(false); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    void set(bool to) {
      all += static_cast<std::size_t>(to) - static_cast<std::size_t>(on);
      on = to;
    }
    std::size_t& all;
    bool on = true;
  };

  asio::any_io_executor executor_;
  AdminContext context_;
  std::vector<tcp::acceptor> acceptors_;
  std::size_t busy_ = 0;
  bool accepting_ = true;
  std::set<beast::tcp_stream*> streams_;
  std::set<asio::steady_timer*> followers_;
  bool stopping_ = false;
  TaskGroup tasks_;
};

AdminServer::AdminServer(const asio::any_io_executor& executor, AdminContext context)
    : impl_(std::make_unique<Impl>(executor, std::move(context))) {}
AdminServer::~AdminServer() = default;
void AdminServer::open(InheritedSockets& inherited) {
  impl_->open(inherited);
}
void AdminServer::start() {
  impl_->start();
}
void AdminServer::configure(std::shared_ptr<const config::Config> config) {
  impl_->configure(std::move(config));
}
asio::awaitable<void> AdminServer::stop() {
  co_await impl_->stop();
}
asio::awaitable<std::vector<int>> AdminServer::stop_and_release() {
  co_return co_await impl_->stop_and_release();
}

}  // namespace egret::relay
