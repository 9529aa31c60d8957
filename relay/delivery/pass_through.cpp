#include "relay/delivery/pass_through.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <memory>

#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_lines = 20;
constexpr std::size_t max_line = 450;  // with code and CRLF within the 512 of RFC 5321 section 4.5.3.1.5

/// Remote text as our own reply: Reply's lines are printable already, here they are bounded.
std::string lines_of(const smtp::Reply& reply) {
  std::string out;
  for (std::size_t i = 0; i < reply.lines.size() && i < max_lines; ++i) {
    if (i > 0) out += '\n';
    out += smtp::cut_text(smtp::printable(reply.lines[i]), max_line);
  }
  return out.empty() ? "2.0.0 ok" : out;
}

const Settled* first(const std::vector<Settled>& results, Settled::End end) {
  for (const Settled& result : results)
    if (result.end == end) return &result;
  return nullptr;
}

}  // namespace

PassThroughAnswer answer_of(const std::vector<Settled>& results, const std::string& id) {
  PassThroughAnswer out;
  if (const Settled* delivered = first(results, Settled::End::delivered)) {
    for (std::uint32_t i = 0; i < results.size(); ++i) {
      if (results[i].end == Settled::End::deferred) out.deferred.push_back(i);
      if (results[i].end == Settled::End::failed) out.failed.push_back(i);
    }
    out.text = lines_of(delivered->reply);
    if (!out.deferred.empty() || !out.failed.empty()) out.text = "2.0.0 delivered in part, the rest is queued as " + id;
    return out;
  }
  const Settled* deferred = first(results, Settled::End::deferred);
  const Settled* decisive = deferred ? deferred : first(results, Settled::End::failed);
  if (!decisive) return {451, "4.3.0 no verdict (" + id + ")", {}, {}};
  const int code = decisive->reply.code;
  out.text = lines_of(decisive->reply);
  if (!deferred) {
    out.code = code >= 500 && code < 600 ? code : 554;
    return out;
  }
  out.code = code >= 450 && code < 500 ? code : 451;
  // Every way out was refused for its own sake: that is no verdict on the message, and the client keeps it.
  if (decisive->reply.permanent())
    out.text = "4.7.1 no way out is left: " + std::string(smtp::cut_text(decisive->reply.to_string(), max_line));
  std::ranges::replace(out.text, '\n', decisive->reply.permanent() ? ' ' : '\n');
  return out;
}

void PassThrough::settle_one(std::size_t index, Settled::End end, const smtp::Reply& reply, const std::string& host) {
  Settled& result = results_[index];
  if (result.end != Settled::End::open) return;
  result = {end, reply, host};
  --open_;
}

void PassThrough::settle(const std::vector<std::uint32_t>& recipients, Settled::End end, const smtp::Reply& reply,
                         const std::string& host) {
  const std::lock_guard lock(mutex_);
  for (const std::uint32_t index : recipients) settle_one(index, end, reply, host);
  finish_if_done();
}

void PassThrough::give_up(const std::string& reply) {
  const smtp::Reply made = smtp::parse_reply(reply);
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < results_.size(); ++i) settle_one(i, Settled::End::deferred, made, "");
  finish_if_done();
}

void PassThrough::finish_if_done() {
  if (open_ > 0 || !waiting_) return;
  boost::asio::post(executor_, [results = results_, waiting = std::make_shared<decltype(waiting_)>(std::move(waiting_))] {
    (*waiting)->complete(results);
  });
}

boost::asio::awaitable<std::vector<Settled>> PassThrough::wait() {
  const auto begin = [this](OperationPtr<std::vector<Settled>> operation) {
    const std::lock_guard lock(mutex_);
    waiting_ = std::move(operation);
    finish_if_done();
  };
  co_return co_await await_operation<std::vector<Settled>>(begin);
}

}  // namespace egret::relay
