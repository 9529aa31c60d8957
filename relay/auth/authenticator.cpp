#include "relay/auth/authenticator.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
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
  if (now - it->second.last <= forget_after) return &it->second;
  clients_.erase(it);
  return nullptr;
}

LoginFailures::Clock::duration LoginFailures::failed(const std::string& client, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  Entry* entry = find(client, now);
  if (!entry) {
    if (clients_.size() >= max_clients)
      std::erase_if(clients_, [&](const auto& c) { return now - c.second.last > forget_after; });
    if (clients_.size() >= max_clients) clients_.clear();
    entry = &clients_[client];
  }
  entry->last = now;
  const int before = std::min(entry->failures++, 4);
  return 500ms * (1 << before);
}

void LoginFailures::succeeded(const std::string& client) {
  const std::lock_guard lock(mutex_);
  clients_.erase(client);
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
std::string Authenticator::fingerprint(const std::string& user, const std::string& secret, const std::string& password) const {
  const std::string text = user + '\0' + secret + '\0' + password;
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
  unsigned length = 0;
  HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
       mac.data(), &length);
  return {reinterpret_cast<const char*>(mac.data()), length};
}

bool Authenticator::check(const config::Users& users, const std::string& user, const std::string& password) {
  const config::User* known = users.find(user);
  if (!known) return verify_nothing(password, users.model_hash());
  const std::string secret = known->scram ? smtp::to_string(*known->scram) : known->crypt_hash;
  const std::string print = fingerprint(user, secret, password);
  {
    const std::lock_guard lock(mutex_);
    const auto it = known_.find(user);
    if (it != known_.end() && CRYPTO_memcmp(it->second.data(), print.data(), print.size()) == 0) return true;
  }
  const bool right = known->scram ? smtp::verify_password(*known->scram, password) : verify_crypt(password, known->crypt_hash);
  if (right) {
    const std::lock_guard lock(mutex_);
    if (known_.size() >= max_known) known_.clear();
    known_[user] = print;
  }
  return right;
}

boost::asio::awaitable<smtp::AuthResult> Authenticator::verify(std::shared_ptr<const config::Users> users, std::string user,
                                                               std::string password) {
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
    OperationPtr<bool> done;
    void run() {
      const bool right = self->check(*users, user, password);
      OPENSSL_cleanse(password.data(), password.size());
      self->waiting_.fetch_sub(1);
      boost::asio::post(executor, [right, operation = std::make_shared<OperationPtr<bool>>(std::move(done))] {
        (*operation)->complete(right);
      });
    }
  };
  auto work = std::make_shared<Work>();
  *work = {this, executor, std::move(users), std::move(user), std::move(password), nullptr};
  const auto begin = [this, work](OperationPtr<bool> done) {
    work->done = std::move(done);
    boost::asio::post(pool_, [work] { work->run(); });
  };
  const bool right = co_await await_operation<bool>(begin);
  co_return right ? smtp::AuthResult::accepted : smtp::AuthResult::refused;
}

}  // namespace egret::relay
