#include "relay/auth/authenticator.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <thread>

#include "relay/auth/nonce.hpp"
#include "relay/auth/password.hpp"
#include "relay/runtime/operation.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;

constexpr int max_waiting = 64;
constexpr std::size_t max_known = 10'000;
constexpr std::size_t max_clients = 50'000;
constexpr int max_failures = 10;
constexpr auto forget_after = 10min;

}  // namespace

// ---- failures ----------------------------------------------------------------------------------------------------

LoginFailures::Entry* LoginFailures::find(const std::string& client, Clock::time_point now) {
  const auto it = clients_.find(client);
  if (it == clients_.end()) return nullptr;
  if (it->second.trying > 0 || now - it->second.last <= forget_after) return &it->second;
  clients_.erase(it);
  return nullptr;
}

LoginFailures::Entry& LoginFailures::entry(const std::string& client, Clock::time_point now) {
  if (Entry* known = find(client, now)) return *known;
  const auto idle = [&](const auto& c) { return c.second.trying == 0 && now - c.second.last > forget_after; };
  if (clients_.size() >= max_clients) std::erase_if(clients_, idle);
  if (clients_.size() >= max_clients) std::erase_if(clients_, [](const auto& c) { return c.second.trying == 0; });
  return clients_[client];
}

LoginFailures::Clock::duration LoginFailures::failed(const std::string& client, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Entry& mine = entry(client, now);
  mine.last = now;
  const int before = std::min(mine.failures++, 4);
  return 500ms * (1 << before);
}

bool LoginFailures::begin(const std::string& client, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Entry& mine = entry(client, now);
  if (mine.failures == 0 && mine.trying == 0) mine.last = now;
  if (mine.failures > 0 && mine.failures + mine.trying >= max_failures) return false;
  ++mine.trying;
  return true;
}

void LoginFailures::end(const std::string& client) {
  const std::lock_guard lock(mutex_);
  if (const auto it = clients_.find(client); it != clients_.end() && it->second.trying > 0) --it->second.trying;
}

void LoginFailures::succeeded(const std::string& client) {
  const std::lock_guard lock(mutex_);
  if (const auto it = clients_.find(client); it != clients_.end()) it->second.failures = 0;
}

bool LoginFailures::too_many(const std::string& client, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const Entry* entry = find(client, now);
  return entry && entry->failures >= max_failures;
}

// ---- verification ------------------------------------------------------------------------------------------------

Authenticator::Authenticator() : key_(random_octets(32)), pool_(std::max(1u, std::thread::hardware_concurrency() / 2)) {}

Authenticator::~Authenticator() {
  pool_.join();
}

smtp::SaslServer::ScramInput Authenticator::scram_input(const config::Users* users) const {
  return {random_nonce(), key_, users ? users->scram_iterations() : 0};
}

/// What a password that was right looks like here: applications log in again for every message, and a hash that is
/// meant to be slow would cost more than the mail. Kept only in memory, under a key of this process.
std::string Authenticator::fingerprint(const config::User& user, const std::string& password) const {
  const std::string secret = user.scram ? smtp::to_string(*user.scram) : user.crypt_hash;
  return smtp::hmac_sha256(key_, user.name + '\0' + secret + '\0' + password);
}

bool Authenticator::remembered(const config::User& user, const std::string& password) {
  const std::string print = fingerprint(user, password);
  const std::lock_guard lock(mutex_);
  const auto it = known_.find(user.name);
  return it != known_.end() && smtp::equal_in_constant_time(it->second, print);
}

bool Authenticator::check(const config::Users& users, const std::string& user, const std::string& password) {
  const config::User* known = users.find(user);
  if (!known) return verify_nothing(password, users.model_hash());
  const bool right = known->scram ? smtp::verify_password(*known->scram, password) : verify_crypt(password, known->crypt_hash);
  if (right) {
    const std::lock_guard lock(mutex_);
    if (known_.size() >= max_known) known_.clear();
    known_[user] = fingerprint(*known, password);
  }
  return right;
}

boost::asio::awaitable<smtp::AuthResult> Authenticator::verify(std::shared_ptr<const config::Users> users, std::string user,
                                                               std::string password) {
  if (const config::User* known = users->find(user); known && remembered(*known, password)) {
    OPENSSL_cleanse(password.data(), password.size());
    co_return smtp::AuthResult::accepted;
  }
  if (waiting_.fetch_add(1) >= max_waiting) {
    waiting_.fetch_sub(1);
    OPENSSL_cleanse(password.data(), password.size());
    co_return smtp::AuthResult::unavailable;
  }
  const boost::asio::any_io_executor executor = co_await boost::asio::this_coro::executor;
  struct Work {
    Authenticator* self;
    boost::asio::any_io_executor executor;
    std::shared_ptr<const config::Users> users;
    std::string user, password;
    OperationPtr<smtp::AuthResult> done;
    void run() {
      auto result = smtp::AuthResult::unavailable;
      if (!self->stopping_) result = self->check(*users, user, password) ? smtp::AuthResult::accepted : smtp::AuthResult::refused;
      OPENSSL_cleanse(password.data(), password.size());
      self->waiting_.fetch_sub(1);
      boost::asio::post(executor, [result, operation = std::make_shared<OperationPtr<smtp::AuthResult>>(std::move(done))] {
        (*operation)->complete(result);
      });
    }
  };
  auto work = std::make_shared<Work>();
  *work = {this, executor, std::move(users), std::move(user), std::move(password), nullptr};
  const auto begin = [this, work](OperationPtr<smtp::AuthResult> done) {
    work->done = std::move(done);
    boost::asio::post(pool_, [work] { work->run(); });
  };
  co_return co_await await_operation<smtp::AuthResult>(begin);
}

}  // namespace egret::relay
