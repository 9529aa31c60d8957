#include "relay/program.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <thread>

#include "relay/admin/admin.hpp"
#include "relay/delivery/dispatcher.hpp"
#include "relay/ingress/ingress.hpp"
#include "relay/reputation/prober.hpp"
#include "relay/runtime/log.hpp"
#include "relay/state/state.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

// Within the ten seconds that a stop may take.
constexpr auto sessions_deadline = 4s;
constexpr auto deliveries_deadline = 8s;

/// One worker thread and what lives on it.
struct Worker {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
  Deadlines client_deadlines{context.get_executor()};
  Deadlines delivery_deadlines{context.get_executor()};
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<Ingress> ingress;
  std::thread thread;

  asio::awaitable<void> stop() {
    const Deadline start = std::chrono::steady_clock::now();
    co_await ingress->stop(start + sessions_deadline);
    co_await dispatcher->stop(start + deliveries_deadline);
    co_await ingress->finish(start + deliveries_deadline + 500ms);
    co_await dispatcher->stop(start + deliveries_deadline + 1s);  // what the last verdicts left to do
  }
};

spool::Options spool_options(const config::Config& config) {
  spool::Options out;
  out.directory = std::filesystem::path(config.data_dir) / "spool";
  out.reserve = config.spool.reserve;
  return out;
}

class Program {
 public:
  explicit Program(std::shared_ptr<const config::Config> config) : config_(std::move(config)) {}

  int run() {
    check_ports_free(*config_);
    state_ = std::make_unique<State>(std::filesystem::path(config_->data_dir), *config_);
    std::vector<spool::Recovered> waiting;
    spool_ =
        std::make_unique<spool::Spool>(spool_options(*config_), [&](spool::Recovered m) { waiting.push_back(std::move(m)); });
    build();
    if (!waiting.empty()) log::info("messages waiting from before", {{"count", std::to_string(waiting.size())}});
    for (const auto& message : waiting)
      workers_[static_cast<std::uint64_t>(message.id) % workers_.size()]->dispatcher->recover(message);
    waiting = {};
    start();
    control_.run();
    if (failure_) std::rethrow_exception(failure_);
    return 0;
  }

 private:
  void build() {
    for (std::size_t i = 0; i < config_->topology.sources.size(); ++i) metrics_.sources.emplace_back();
    for (std::size_t i = 0; i < config_->topology.smarthosts.size(); ++i) metrics_.smarthosts.emplace_back();
    budgets_ = std::make_unique<Budgets>(*config_);
    reputation_ = std::make_unique<Reputation>(control_.get_executor(), config_, events_,
                                               [this](auto snapshot) { publish(std::move(snapshot)); });
    state_->restore(*reputation_, *budgets_);
    reputation_->on_changed([this](std::uint32_t source) { state_->changed(source); });
    prober_ = std::make_unique<Prober>(control_.get_executor(), config_, *reputation_);
    reputation_->on_check_now([this](std::uint32_t source, const std::string& list) { prober_->check_now(source, list); });
    shared_.reset(new DeliveryShared{config_, *spool_, *reputation_, metrics_, *budgets_, {}, {}, {}, nullptr, {}, {}, {}, {}});
    shared_->cache.limit = config_->spool.cache;
    if (config_->delivery.mta_sts) {
      sts_ = std::make_unique<StsCache>(std::filesystem::path(config_->data_dir), config_->delivery.allow_private);
      shared_->sts = sts_.get();
    }
    shared_->opportunistic_tls = TlsContext::client(false, "");
    shared_->verified_tls = TlsContext::client(true, "");
    shared_->dane_tls = TlsContext::dane();
    for (const auto& smarthost : config_->smarthosts) shared_->smarthost_tls.push_back(TlsContext::client(true, smarthost.ca));
    const auto threads =
        config_->threads > 0 ? static_cast<unsigned>(config_->threads) : std::max(1u, std::thread::hardware_concurrency());
    ingress_shared_ = std::make_unique<IngressShared>(config_->limits);
    std::vector<Dispatcher*> all;
    for (unsigned i = 0; i < threads; ++i) {
      auto worker = std::make_unique<Worker>();
      worker->dispatcher = std::make_unique<Dispatcher>(worker->context.get_executor(), i, *shared_, worker->delivery_deadlines);
      worker->ingress = std::make_unique<Ingress>(worker->context.get_executor(), *shared_, *ingress_shared_, *worker->dispatcher,
                                                  worker->client_deadlines);
      all.push_back(worker->dispatcher.get());
      workers_.push_back(std::move(worker));
    }
    for (auto& worker : workers_) worker->dispatcher->connect(all);
    credentials_ = std::make_unique<CredentialsWatch>(control_.get_executor(), config_,
                                                      [this](const Credentials& credentials) { publish(credentials); });
    admin_ = std::make_unique<AdminServer>(
        control_.get_executor(), AdminContext{config_, *spool_, *reputation_, *prober_, events_, metrics_, *budgets_,
                                              shared_->handovers, shared_->unknown_replies, all, [this] { return ready_; }});
  }

  void start() {
    warn_about_keys();
    admin_->open();
    std::vector<std::vector<asio::ip::tcp::acceptor>> acceptors;
    for (auto& worker : workers_) acceptors.push_back(open_listeners(worker->context.get_executor(), *config_));
    reputation_->start();
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      Worker& worker = *workers_[i];
      asio::post(worker.context,
                 [&worker, mine = std::make_shared<std::vector<asio::ip::tcp::acceptor>>(std::move(acceptors[i]))] {
                   worker.dispatcher->start();
                   worker.ingress->start(std::move(*mine));
                 });
      worker.thread = std::thread([this, &worker] { work(worker); });
    }
    prober_->start();
    credentials_->start();
    if (sts_) sts_->start(control_.get_executor());
    admin_->start();
    state_->start(control_.get_executor(), *reputation_, *budgets_);
    ready_ = true;
    for (const auto& listener : config_->listeners) log::info("listening", {{"address", listener.address}, {"protocol", "smtp"}});
    log::info("listening", {{"address", config_->admin.address}, {"protocol", "http"}});
    wait_for_signal();
  }

  void warn_about_keys() {
    for (const auto& signer : config_->dkim)
      if (signer.key->weak())
        log::warn("DKIM key below 2048 bits: some receivers do not count its signatures",
                  {{"domain", signer.domain}, {"selector", signer.selector}});
  }

  void work(Worker& worker) {
    try {
      worker.context.run();
    } catch (const std::exception& e) {
      // Broken invariants end the program: the spool makes a restart safe, going on might not be.
      log::error("worker failed", {{"error", e.what()}});
      log::stop();
      std::abort();
    }
  }

  void publish(const std::shared_ptr<const routing::Snapshot>& snapshot) {
    for (auto& worker : workers_)
      asio::post(worker->context, [dispatcher = worker->dispatcher.get(), snapshot] { dispatcher->set_snapshot(snapshot); });
  }

  void publish(const Credentials& credentials) {
    for (auto& worker : workers_)
      asio::post(worker->context, [ingress = worker->ingress.get(), credentials] { ingress->set_credentials(credentials); });
  }

  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      if (signal == SIGHUP) {
        log::warn("SIGHUP: certificate and users are read again; everything else of the configuration needs a restart");
        credentials_->check();
        return wait_for_signal();
      }
      log::info("stopping", {{"signal", std::to_string(signal)}});
      ready_ = false;
      ingress_shared_->authenticator.stop();
      asio::co_spawn(control_, stop(), [this](std::exception_ptr failure) {
        failure_ = failure;
        control_.stop();
      });
    });
  }

  static asio::awaitable<void> stop_worker(Worker* worker) {
    co_await asio::co_spawn(worker->context, worker->stop(), asio::use_awaitable);
  }

  /// The ways in first, then the ways out, then those who keep the books.
  asio::awaitable<void> stop() {
    // All at once: each may use its whole time.
    for (auto& worker : workers_) stops_.spawn(stop_worker(worker.get()), "stop");
    co_await stops_.wait();
    co_await prober_->stop();
    credentials_->stop();
    if (sts_) sts_->stop();
    reputation_->stop();
    co_await admin_->stop();
    state_->stop(*reputation_, *budgets_);
    for (auto& worker : workers_) worker->guard.reset();
    for (auto& worker : workers_) worker->context.stop();
    for (auto& worker : workers_) worker->thread.join();
    const auto counters = spool_->counters();
    log::info("stopped", {{"waiting", std::to_string(counters.waiting)}});
  }

  // Destroyed from the bottom up: workers before what they use, the spool last of all.
  std::shared_ptr<const config::Config> config_;
  Metrics metrics_;
  Events events_;
  std::unique_ptr<spool::Spool> spool_;
  std::unique_ptr<State> state_;
  std::unique_ptr<Budgets> budgets_;
  asio::io_context control_{1};
  asio::signal_set signals_{control_, SIGTERM, SIGINT, SIGHUP};
  std::unique_ptr<Reputation> reputation_;
  std::unique_ptr<Prober> prober_;
  std::unique_ptr<DeliveryShared> shared_;
  std::unique_ptr<StsCache> sts_;
  std::unique_ptr<IngressShared> ingress_shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<CredentialsWatch> credentials_;
  std::unique_ptr<AdminServer> admin_;
  TaskGroup stops_{control_.get_executor()};
  std::exception_ptr failure_;
  bool ready_ = false;
};

}  // namespace

namespace {

/// Ten thousand clients need as many descriptors; the soft limit of most systems is a thousand.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int run_program(std::shared_ptr<const config::Config> config) {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  log::start(config->log.level, config->log.format);
  int code = 2;
  try {
    Program program(std::move(config));
    code = program.run();
  } catch (const std::exception& e) {
    log::error("cannot start", {{"reason", e.what()}});
  }
  log::stop();
  return code;
}

}  // namespace egret::relay
