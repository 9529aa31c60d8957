#include "relay/alerts/mail.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr auto gather = 2s;    // what one cause brings about comes together: listed, then pool-exhausted
constexpr auto spacing = 60s;  // between messages
constexpr std::size_t ids_kept = 1000;

}  // namespace

MailTarget::MailTarget(const asio::any_io_executor& executor, const config::Config& config, const config::AlertMail& mail,
                       spool::Spool& spool, std::vector<Dispatcher*> dispatchers, AlertCounters& counters)
    : config_(config), mail_(mail), spool_(spool), dispatchers_(std::move(dispatchers)), counters_(counters), wake_(executor) {}

bool MailTarget::wants(const Event& event) const {
  if (!event.message.empty() && std::ranges::find(ids_, event.message) != ids_.end()) return false;
  return event.sender.empty() || !mail_.from || event.sender != mail_.from->to_string();
}

void MailTarget::add(Notice notice) {
  if (waiting_.empty()) due_ = std::max(in(gather), not_before_);
  if (waiting_.size() < max_alerts)
    waiting_.push_back(std::move(notice));
  else
    ++left_out_;
  wake_.cancel();
}

asio::awaitable<void> MailTarget::run() {
  while (!stopping_) {
    wake_.expires_at(due_);
    boost::system::error_code ignored;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (std::chrono::steady_clock::now() >= due_) send();
  }
  if (!waiting_.empty()) send();
}

void MailTarget::send() {
  const std::uint64_t count = waiting_.size() + left_out_;
  AlertMessage about;
  about.id = spool_.next_id();
  about.hostname = config_.hostname;
  about.from = mail_.from ? mail_.from->to_string() : "egret@" + config_.hostname;
  about.to = mail_.to.to_string();
  about.time = now();
  about.left_out = left_out_;
  auto message = std::make_shared<spool::Message>();
  message->id = about.id;
  message->class_name = config_.classes[mail_.message_class].name;
  if (mail_.from) message->sender = *mail_.from;
  message->recipients = {mail_.to};
  message->report = true;  // never answered with a report, whoever the sender is
  message->accepted = now();
  message->client = "local";
  message->tail.push_back(to_mail(waiting_, about));
  const std::string& octets = message->tail.front();
  message->eight_bit = std::ranges::any_of(octets, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  message->body_size = octets.size();
  message->header_end = octets.find("\r\n\r\n") + 2;
  waiting_.clear();
  left_out_ = 0;
  due_ = Deadline::max();
  not_before_ = in(spacing);
  if (spool_.trouble() == spool::Trouble::broken) {
    counters_.dropped.add(count);
    return log::error("alerts dropped", {{"to", about.to}, {"count", std::to_string(count)}, {"reason", spool_.trouble_text()}});
  }
  ids_.push_back(smtp::to_string(about.id));
  if (ids_.size() > ids_kept) ids_.pop_front();
  counters_.sent.add(count);
  log::info("alerts by mail", {{"id", smtp::to_string(about.id)}, {"to", about.to}, {"count", std::to_string(count)}});
  spool_.accept_internal(message);
  Dispatcher* dispatcher = dispatchers_[static_cast<std::uint64_t>(about.id) % dispatchers_.size()];
  asio::post(dispatcher->executor(), [dispatcher, message] { dispatcher->submit(message); });
}

void MailTarget::stop() {
  stopping_ = true;
  wake_.cancel();
}

}  // namespace egret::relay
